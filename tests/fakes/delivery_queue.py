"""The queue as delivery sees it, in memory: FakeQueue.

It has the surface of mailqueue.Queue that delivery uses, keeps its promises, and checks what it is told: an
entry is settled once per lease, only claimed lanes are taken from.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fakes.clock import FakeClock

from mailqueue.entry import Entry, Loaded, Message, Recipient
from mailqueue.errors import NoSpace, QueueError


@dataclass
class Waiting:
    """One row: an entry's facts on disk."""

    entry: Entry
    due: float
    leased: bool = False


class FakeQueue:
    """settled: (entry, remaining, keywords of settle) in order. rows: what is on disk."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.rows: dict[int, Waiting] = {}
        self.lanes: dict[str, dict[int, None]] = defaultdict(dict)
        self.claimed: set[str] = set()
        self.turn: dict[str, bool] = defaultdict(
            bool
        )  # was the last take of the lane to begin with fresh mail?
        self.settled: list[tuple[Entry, list[Recipient], dict[str, Any]]] = []
        self.reports: list[Message] = []
        self.quarantined: list[str] = []
        self.takes: list[tuple[str, int, float]] = []
        self.not_before: dict[str, float] = {}
        self.admit: Callable[[str], bool] = lambda lane: False
        self.unadmit: Callable[[str], None] = lambda lane: None
        self.on_leased: Callable[[Entry], None] = lambda entry: None
        self.on_due: Callable[[str], None] = lambda lane: None
        self.on_wake: Callable[[], None] = lambda: None
        self.unreadable: set[int] = set()
        self.full = False
        self.blind = False
        self._last = 0

    def submit(self, lane: str, *addresses: str, content: bytes = b"hello\r\n", options: str = "") -> int:
        """Accept a message with one lane, now durable; leased at once if admitted."""
        self._last += 1
        sender, now = "from@client.example", self.clock.time()
        recipients = [Recipient(address, options) for address in addresses or (f"to@{lane[3:]}",)]
        fields = (self._last, self._last, lane, True, 0, now, now, sender, len(content), recipients)
        row = self.rows[self._last] = Waiting(Entry(*fields, meta=b"", content=content), now)
        self.lanes[lane][self._last] = None
        if self.admit(lane):
            row.leased = True
            self.on_leased(self._lease(row))
        elif lane in self.claimed:
            self.on_due(lane)
        else:
            self.on_wake()
        return self._last

    def trust_no_due_after(self, latest: float) -> None:
        """As the queue believes stored times: what is due later is due now."""
        for row in self.rows.values():
            row.due = row.due if row.due <= latest else self.clock.time()

    def age(self, seconds: float) -> None:
        """What is there was accepted earlier by so much."""
        for row in self.rows.values():
            row.entry.accepted -= seconds

    def take(
        self, lane: str, n: int, older_than: float = 0.0, from_future: bool = False
    ) -> asyncio.Future[list[Entry]]:
        assert lane in self.claimed, f"take from {lane}, which nobody claimed"
        if self.full:
            failed: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(failed.set_exception, NoSpace("full"))
            return failed
        self.takes.append((lane, n, older_than))
        taken: list[Entry] = []
        for row in self._in_turns(lane, older_than, from_future)[:n]:
            row.leased = True
            taken.append(self._lease(row, content=None))
        future: asyncio.Future[list[Entry]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, taken)
        return future

    def _in_turns(self, lane: str, older_than: float, from_future: bool) -> list[Waiting]:
        """What can be taken, fresh mail and backlog in turns, also from one call to the next."""
        ready: dict[bool, list[Waiting]] = {True: [], False: []}
        for row in sorted((self.rows[number] for number in self.lanes[lane]), key=lambda row: row.due):
            accepted = row.entry.accepted
            old = accepted < older_than or (from_future and accepted > self.clock.time() + 60)
            due = old if older_than else row.due <= self.clock.time()
            if due and not row.leased:
                ready[row.entry.fresh].append(row)
        self.turn[lane] = not self.turn[lane]
        one, other = ready[self.turn[lane]], ready[not self.turn[lane]]
        both = [row for pair in zip(one, other, strict=False) for row in pair]
        return both + one[len(both) // 2 :] + other[len(both) // 2 :]

    def settle(
        self,
        entry: Entry,
        remaining: Sequence[Recipient] = (),
        *,
        due: float = 0.0,
        counted: bool = True,
        reports: Sequence[Message] = (),
        lane: str | None = None,
    ) -> None:
        row = self.rows[entry.id]
        assert row.leased, f"entry {entry.id} is settled without a lease"
        row.leased = False
        self.settled.append(
            (entry, list(remaining), {"due": due, "counted": counted, "reports": list(reports), "lane": lane})
        )
        self.reports += reports
        if not remaining:
            del self.rows[entry.id], self.lanes[entry.lane][entry.id]
            return
        row.entry.recipients = list(remaining)
        row.entry.attempts += counted
        row.entry.fresh = row.entry.fresh and not counted
        row.due = due or row.due
        if lane is not None:
            del self.lanes[row.entry.lane][entry.id]
            self.lanes[lane][entry.id] = None
            row.entry.lane = lane
            if lane in self.claimed:
                self.on_due(lane)
            else:
                self.on_wake()
        elif row.due <= self.clock.time() and entry.lane in self.claimed:
            asyncio.get_running_loop().call_soon(self.on_due, entry.lane)

    def load_now(self, entry: Entry) -> Loaded | None:
        if entry.id in self.unreadable:
            raise OSError("input/output error")
        content = self.rows[entry.id].entry.content or b""
        return Loaded(b"", entry.size, 0, data=content)

    async def load(self, entry: Entry) -> Loaded | None:
        return self.load_now(entry)

    def quarantine(self, entry: Entry, reason: str) -> None:
        self.quarantined.append(reason)
        self.rows[entry.id].leased = False

    def claim(self, n: int, now: float) -> list[str]:
        found = [lane for lane in self.lanes if lane not in self.claimed and self._next(lane) <= now][:n]
        self.claimed.update(found)
        return found

    def claim_lane(self, lane: str) -> None:
        self.claimed.add(lane)
        self.not_before.pop(lane, None)

    def unclaim(self, lane: str, not_before: float = 0.0) -> None:
        self.claimed.discard(lane)
        self.not_before[lane] = not_before

    def next_due(self, lane: str) -> float | None:
        if self.blind:
            raise QueueError("the database cannot be read")
        dues = [row.due for number in self.lanes[lane] if not (row := self.rows[number]).leased]
        return min(dues, default=None)

    def next_wake(self) -> float | None:
        dues = [self._next(lane) for lane in self.lanes if lane not in self.claimed]
        return min((due for due in dues if due != float("inf")), default=None)

    @property
    def leased(self) -> int:
        return sum(row.leased for row in self.rows.values())

    def _next(self, lane: str) -> float:
        due = self.next_due(lane)
        return float("inf") if due is None else max(due, self.not_before.get(lane, 0.0))

    def _lease(self, row: Waiting, **changes: Any) -> Entry:
        entry = row.entry
        fields = {name: getattr(entry, name) for name in Entry.__slots__} | {"due": row.due} | changes
        return Entry(**fields)
