"""mailqueue against a model: any order of calls, restarts and crashes, and the queue is as the model says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fakes.clock import FakeClock
from fakes.spool import SMALL, everything, message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailqueue import Entry, Filter, Queue, State

T = TypeVar("T")
LANES = st.sampled_from(["a", "b", "c"])
PAUSE = 60.0


@dataclass
class Known:
    """What the model knows of an entry at rest, or before its lease."""

    lane: str
    state: State
    due: float
    attempts: int = 0
    crashes: int = 0


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.home = Path(tempfile.mkdtemp())
        self.spool = self.home / "spool"
        self.clock = FakeClock()
        self.known: dict[int, Known] = {}
        self.leases: dict[int, Entry] = {}
        self.marks: dict[int, str] = {}
        self.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def start(self) -> None:
        self.queue: Queue = self.run(Queue.open(self.spool, SMALL, now=self.clock.time))
        self.queue.on_leased = lambda entry: self.leases.update({entry.id: entry})
        for lane in "abc":  # claimed all the time: the schedule has its own tests
            self.queue.claim_lane(lane)

    def in_flight(self) -> None:
        """What a start makes of the leases."""
        for number in self.leases:
            known = self.known[number]
            known.crashes += 1
            known.state = State.HELD if known.crashes >= SMALL.crash_limit else State.DEFERRED
            known.due = self.clock.time() + PAUSE
        self.leases.clear()
        self.marks.clear()

    @rule(lanes=st.sets(LANES, min_size=1), admitted=st.sets(LANES))
    def accept(self, lanes: set[str], admitted: set[str]) -> None:
        self.queue.admit = lambda lane: lane in admitted
        ordered = sorted(lanes)
        number = self.run(self.queue.accept(message(*ordered)))
        for place, lane in enumerate(ordered):
            self.known[(number << 10) + place] = Known(lane, State.INCOMING, self.clock.time())

    @rule(lane=LANES, n=st.integers(1, 4))
    def take(self, lane: str, n: int) -> None:
        async def take() -> list[Entry]:
            return await self.queue.take(lane, n)

        waiting = [
            number
            for number, known in self.known.items()
            if number not in self.leases
            and known.lane == lane
            and known.state in (State.INCOMING, State.DEFERRED)
            and known.due <= self.clock.time()
        ]
        taken = self.run(take())
        assert len(taken) == min(n, len(waiting))
        for entry in taken:
            known = self.known[entry.id]
            assert entry.id in waiting
            assert (entry.fresh, entry.attempts) == (known.state is State.INCOMING, known.attempts)
            self.leases[entry.id] = entry

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(), fate=st.sampled_from(["done", "defer", "back"]), wait=st.sampled_from([0.5, 30, 300])
    )
    def settle(self, data: st.DataObject, fate: str, wait: float) -> None:
        number = data.draw(st.sampled_from(sorted(self.leases)))
        entry = self.leases.pop(number)
        mark = self.marks.pop(number, "")
        remaining = [] if fate == "done" else entry.recipients
        due = self.clock.time() + wait

        async def settle() -> None:
            self.queue.settle(entry, remaining, due=due if fate == "defer" else 0.0, counted=fate == "defer")
            await self.queue.flush()

        self.run(settle())
        known = self.known[number]
        if fate == "done" or mark == "drop":
            del self.known[number]
        elif fate == "defer":
            known.due, known.attempts, known.state = due, known.attempts + 1, State.DEFERRED
        if mark == "hold" and number in self.known:
            known.state = State.HELD

    @rule(action=st.sampled_from(["hold", "release", "retry", "drop"]), lane=LANES)
    def operate(self, action: str, lane: str) -> None:
        self.run(getattr(self.queue, action)(Filter(lane=lane)))
        for number, known in list(self.known.items()):
            if known.lane == lane and number in self.leases:
                self.mark(number, action)
            elif known.lane == lane:
                self.change(number, known, action)

    def mark(self, number: int, action: str) -> None:
        if action == "drop" or (action == "hold" and number not in self.marks):
            self.marks[number] = action
        elif action == "release" and self.marks.get(number) == "hold":
            del self.marks[number]

    def change(self, number: int, known: Known, action: str) -> None:
        waiting = known.state in (State.INCOMING, State.DEFERRED)
        if action == "drop":
            del self.known[number]
        elif action == "hold" and waiting:
            known.state = State.HELD
        elif action == "retry" and waiting:
            known.due = self.clock.time()
        elif action == "release" and known.state is State.HELD:
            known.state = State.DEFERRED if known.attempts else State.INCOMING
            known.due, known.crashes = self.clock.time(), 0

    @rule(seconds=st.sampled_from([1, 60, 3600]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        image = self.home / "image"
        if crash:
            shutil.copytree(self.spool, image)
        self.run(self.queue.close())
        if crash:
            shutil.rmtree(self.spool)
            image.rename(self.spool)
        self.in_flight()
        self.start()

    @invariant()
    def rows_are_as_known(self) -> None:
        rows = {row.id: row for row in self.run(everything(self.queue))}
        assert rows.keys() == self.known.keys()
        for number, known in self.known.items():
            row = rows[number]
            if number in self.leases:
                assert row.state is State.ACTIVE
            else:
                found = (row.lane, row.state, row.attempts, row.crashes)
                assert found == (known.lane, known.state, known.attempts, known.crashes)
                assert known.state is State.HELD or row.due == known.due

    @invariant()
    def counters_are_as_known(self) -> None:
        counts: dict[tuple[str, State], int] = {}
        for number, known in self.known.items():
            state = State.ACTIVE if number in self.leases else known.state
            for lane in (known.lane, ""):
                counts[lane, state] = counts.get((lane, state), 0) + 1
        stats = self.queue.stats()
        assert {("", state): tally.entries for state, tally in stats.items() if tally.entries} == {
            key: count for key, count in counts.items() if not key[0]
        }
        for tally in self.run(self.queue.lanes()):
            for state, part in tally.states.items():
                assert (part.entries, part.bytes) == (counts.pop((tally.lane, state)), part.entries * 6)
        assert not [key for key in counts if key[0]]

    def teardown(self) -> None:
        self.run(self.queue.close())
        self.runner.close()
        shutil.rmtree(self.home)


TestQueueModel = QueueMachine.TestCase
TestQueueModel.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
