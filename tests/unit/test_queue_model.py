"""mailqueue against a dictionary: any calls, restarts and crashes in any order, and it is as the model says.

A crash is a kill (what was written is there) or a power cut (what was synced is there), at rest or amid calls
that nobody has waited for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakes import queue_model as model
from fakes.clock import FakeClock
from fakes.queue_model import LANES, LARGEST_INLINE, Known, ending, mail
from fakes.shadow_disk import ShadowDisk
from fakes.spool import everything
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mailqueue import Entry, Filter, Message, Options, Queue, Recipient, Row, State, message_name

T = TypeVar("T")
OPTIONS = Options(reserve=0, ballast=0, inline_limit=LARGEST_INLINE, checkpoint_bytes=300_000)
REPORT = b"report\r\n"
MEMORY = Path("/dev/shm")  # the disk is our own, so the real one need not be waited for
Alternatives = list[Known | None]


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.home = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.spools = 0
        self.spool = self.home / "0"
        self.disk = ShadowDisk()
        self.clock = FakeClock()
        self.serial = 0
        self.known: dict[int, Known] = {}
        self.leases: dict[int, Entry] = {}
        self.marks: dict[int, str] = {}
        self.acked: dict[int, bool] = {}  # messages of the last crash
        self.reported: set[int] = set()  # entries whose end, in the last crash, brought a report
        self.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def start(self) -> None:
        self.disk.listen(self.spool)
        self.queue: Queue = self.run(Queue.open(self.spool, OPTIONS, now=self.clock.time))
        self.queue.on_leased = lambda entry: self.leases.update({entry.id: entry})
        for lane in LANES:  # claimed all the time: the schedule has its own tests
            self.queue.claim_lane(lane)

    def rows(self) -> dict[int, Row]:
        return {row.id: row for row in self.run(everything(self.queue))}

    # --- calls that are waited for

    def message(self, made: dict[str, Any]) -> Message:
        self.serial += 1
        data = (b"%d " % self.serial * made["size"])[: made["size"]]
        content = self.queue.content()
        content.write(data)
        to = [Recipient(f"{place}@example.net") for place in range(made["many"])]
        self.queue.admit = lambda lane: lane in made["admitted"]
        return Message("a@example.com", {lane: to for lane in sorted(made["lanes"])}, content, data)

    def entries(self, number: int, message: Message) -> dict[int, Known]:
        """What the message brings, numbered; its meta is what its content is."""
        return {
            (number << 10) + place: Known(
                lane, State.INCOMING, self.clock.time(), tuple(r.address for r in to), message.meta
            )
            for place, (lane, to) in enumerate(message.lanes.items())
        }

    @rule(made=mail)
    def accept(self, made: dict[str, Any]) -> None:
        message = self.message(made)
        self.known |= self.entries(self.run(self.queue.accept(message)), message)

    @rule(lane=st.sampled_from(LANES), n=st.integers(1, 4))
    def take(self, lane: str, n: int) -> None:
        async def take() -> list[Entry]:
            return await self.queue.take(lane, n)

        waiting = [
            number
            for number, known in self.known.items()
            if number not in self.leases
            and (known.lane, known.waits) == (lane, True)
            and known.due <= self.clock.time()
        ]
        taken = self.run(take())
        assert len(taken) == min(n, len(waiting))
        for entry in taken:
            known = self.known[entry.id]
            assert entry.id in waiting
            assert (entry.fresh, entry.attempts) == (known.state is State.INCOMING, known.attempts)
            self.leases[entry.id] = entry
            loaded = self.queue.load_now(entry)
            assert loaded is not None
            assert known.content == (loaded.path.read_bytes() if loaded.path else loaded.data)

    def end(self, number: int, end: dict[str, Any]) -> Known | None:
        """Ends a lease; what that makes of the entry."""
        entry, kind = self.leases.pop(number), end["kind"]
        due = self.clock.time() + end["wait"]
        remaining = {"done": [], "report": [], "part": entry.recipients[1:]}.get(kind, entry.recipients)
        reports = [Message("", {"reports": [Recipient("a@example.com")]}, REPORT)] if kind == "report" else []
        self.queue.settle(
            entry,
            remaining,
            due=due if kind in ("defer", "part") else 0.0,
            counted=kind in ("defer", "part"),
            reports=reports,
            lane="moved" if kind == "move" else None,
        )
        return model.settled(self.known[number], kind, due, self.marks.pop(number, ""))

    @rule(place=st.integers(0, 9), end=ending, admit=st.booleans())
    def settle(self, place: int, end: dict[str, Any], admit: bool) -> None:
        """What hypothesis draws must not depend on what is leased: after a crash that is a matter of time."""
        if not self.leases:
            return
        number = sorted(self.leases)[place % len(self.leases)]
        self.queue.admit = lambda lane: admit

        async def settle() -> Known | None:
            known = self.end(number, end)
            await self.queue.flush()
            return known

        self.become(number, self.run(settle()))
        if end["kind"] == "report":
            (new,) = self.rows().keys() - self.known.keys()
            self.known[new] = self.report()

    def report(self) -> Known:
        return Known("reports", State.INCOMING, self.clock.time(), ("a@example.com",), REPORT)

    def become(self, number: int, known: Known | None) -> None:
        self.known.pop(number)
        if known is not None:
            self.known[number] = known

    @rule(action=st.sampled_from(["hold", "release", "retry", "drop"]), lane=st.sampled_from(LANES))
    def operate(self, action: str, lane: str) -> None:
        self.run(getattr(self.queue, action)(Filter(lane=lane)))
        for number, known in list(self.known.items()):
            if known.lane == lane and number in self.leases:
                self.marks[number] = model.marked(self.marks.get(number, ""), action)
            elif known.lane == lane:
                self.become(number, model.operated(known, action, self.clock.time()))

    @rule(seconds=st.sampled_from([1, 60, 3600]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # --- ends

    @rule()
    def close(self) -> None:
        """What is leased over a clean close counts as in flight."""
        self.run(self.queue.close())
        self.begin_again({})

    @rule(
        power=st.booleans(),
        made=st.lists(mail, max_size=3),
        ends=st.lists(ending, max_size=3),
        turns=st.sampled_from([0, 1, 2, 5, 20, 100, 400]),
    )
    def crash(self, power: bool, made: list[dict[str, Any]], ends: list[dict[str, Any]], turns: int) -> None:
        """So many turns of the loop after calls that nobody waits for."""
        self.spools += 1
        image = self.home / str(self.spools)
        pending = self.run(self.calls(made, ends, turns))
        acked = dict(self.acked)
        self.disk.image(image, power=power)
        self.run(self.queue.close())
        shutil.rmtree(self.spool)
        self.spool = image
        for number, alternatives in pending.items():
            if acked.get(number >> 10):
                alternatives.remove(None)
        self.begin_again(pending)

    async def calls(
        self, made: list[dict[str, Any]], ends: list[dict[str, Any]], turns: int
    ) -> dict[int, Alternatives]:
        """entry -> what may have become of it; None: not there."""
        self.acked.clear()
        pending: dict[int, Alternatives] = {}
        crash = {n: model.after_crash(self.known[n], self.clock.time(), OPTIONS) for n in self.leases}
        self.queue.on_leased = lambda entry: None
        for end, number in zip(ends, sorted(self.leases), strict=False):
            pending[number] = [crash[number], self.end(number, end)]
            if end["kind"] == "report":
                self.reported.add(number)
        for item in made:
            message = self.message(item)
            number = self.queue.submit(message, lambda n, error: self.acked.update({n: error is None}))
            for entry, known in self.entries(number, message).items():
                pending[entry] = [None, known, model.after_crash(known, self.clock.time(), OPTIONS)]
        for _ in range(turns):
            await asyncio.sleep(0)
        return pending

    def begin_again(self, pending: dict[int, Alternatives]) -> None:
        """The model after a start: what was leased was in flight, what was pending is as it is found."""
        now = self.clock.time()
        for number in self.leases:
            self.known[number] = model.after_crash(self.known[number], now, OPTIONS)
        self.leases.clear()
        self.marks.clear()
        self.start()
        rows = self.rows()
        for number, alternatives in pending.items():
            fitting = [known for known in alternatives if model.fits(rows.get(number), known)]
            assert fitting, (rows.get(number), alternatives)
            self.known.pop(number, None)
            if fitting[0] is not None:
                self.known[number] = fitting[0]
        self.agree(pending, rows)
        self.contents_are_as_known()

    def agree(self, pending: dict[int, Alternatives], rows: dict[int, Row]) -> None:
        """A message is there with all its entries or not at all; a report with the end it is about."""
        new = [number for number, alternatives in pending.items() if None in alternatives[:1]]
        for number in new:
            together = [other for other in new if other >> 10 == number >> 10]
            assert len({other in rows for other in together}) == 1
        if not pending:
            return
        ended = {number for number in self.reported if number not in rows}
        strange = rows.keys() - self.known.keys()
        assert len(strange) == len(ended), (strange, ended)
        for number in strange:
            known = self.report()
            self.known[number] = (
                known if model.fits(rows[number], known) else model.after_crash(known, known.due, OPTIONS)
            )
        self.reported = set()

    def contents_are_as_known(self) -> None:
        for number, known in self.known.items():
            found = self.run(self.queue.read_content(message_name(number >> 10)))
            assert known.content == (found.read_bytes() if isinstance(found, Path) else found)

    # --- what is always true

    @invariant()
    def rows_are_as_known(self) -> None:
        rows = self.rows()
        assert rows.keys() == self.known.keys()
        for number, known in self.known.items():
            if number in self.leases:
                assert rows[number].state is State.ACTIVE
            else:
                assert model.fits(rows[number], known), (rows[number], known)

    @invariant()
    def counters_are_as_known(self) -> None:
        wanted = model.counts((known, number in self.leases) for number, known in self.known.items())
        stats = self.queue.stats()
        found = {("", state): (tally.entries, tally.bytes) for state, tally in stats.items() if tally.entries}
        for tally in self.run(self.queue.lanes()):
            for state, part in tally.states.items():
                found[tally.lane, state] = (part.entries, part.bytes)
        assert found == wanted

    def teardown(self) -> None:
        self.disk.deafen()
        self.run(self.queue.close())
        self.runner.close()
        shutil.rmtree(self.home)


FULL = "FAULTS_FULL" in os.environ
pytestmark = pytest.mark.timeout(7200 if FULL else 120)
TestQueueModel = QueueMachine.TestCase
TestQueueModel.settings = settings(
    max_examples=500 if FULL else 40,
    stateful_step_count=50 if FULL else 30,
    deadline=None,
    derandomize=not FULL,
    phases=(Phase.generate, Phase.shrink) if FULL else (Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
