"""The lanes that are suspended: a small record each, one probe at a time, expiry of what waits too long.

A suspended lane costs a record here, nothing else: its entries wait on disk untouched. Records are bounded;
beyond that the oldest lane goes back to the queue's own schedule, which offers it again when its probe is
due, the longest wait from now: a hundred thousand lanes in trouble must leave time for those that work. Of
such a lane ("away") only the numbers are kept, no words. Each failed probe (and nothing else) looks for
entries that are over their time and lets them expire, in bounded chunks (promise 11).
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from heapq import heapify, heappop, heappush

from mailqueue.entry import Entry
from mailqueue.errors import QueueError
from relay.delivery.health import HEALTHY, PROBE_FIRST, Condition, Event, Trouble, longest_wait, step
from relay.delivery.lane import Lane
from relay.delivery.retry import CLOCKS_DIFFER, expired
from relay.delivery.tools import Tools
from relay.observe.labels import FAULT_REASONS
from relay.reply import Reply

CHUNK = 100  # entries expired at a time


class Suspended:
    """records: lane -> condition, oldest first; away: the same of those that wait for their probe on disk;
    mixed: suspended since before a reload, so what waits in them may go another way now."""

    def __init__(self, tools: Tools, revive: Callable[[str, Condition], Lane]) -> None:
        """revive: make the lane again, in the given condition."""
        self.records: dict[str, Condition] = {}
        self.probing: dict[str, Condition] = {}
        self.away: dict[str, Condition] = {}
        self.mixed: set[str] = set()
        self._tools = tools
        self._revive = revive
        self._due: list[tuple[float, str]] = []
        self._expiring: set[str] = set()

    def add(self, lane: Lane) -> None:
        """A lane got into trouble; its condition says until when."""
        condition, name = lane.condition, lane.name
        before = self.probing.pop(name, None)
        self.records[name] = condition
        heappush(self._due, (condition.until, name))
        if len(self._due) > 2 * (len(self.records) + CHUNK):  # most are of records that are no more
            self._plan()
        if not _told(before, condition):
            self._announce(name, condition)
        if condition.trouble is not None and condition.probes:
            self._expire(name, lane.policy.route, condition.trouble, condition.probes, lane)
        if len(self.records) > self._tools.bounds.suspended:
            self._evict()

    def __contains__(self, name: str) -> bool:
        """True for a lane that waits for its probe."""
        return name in self.records or name in self.away

    def condition(self, name: str) -> Condition:
        return self.records.get(name) or self.away.get(name) or HEALTHY

    def recall(self, name: str) -> None:
        """The queue offers a lane that was away: its probe is due."""
        condition = self.away.pop(name)
        self.probing[name] = condition
        self._begin(name, condition, self._tools.clock.monotonic())

    def remove(self, name: str) -> None:
        """It works again, or is not needed any more. Idempotent."""
        self.mixed.discard(name)
        condition = self.probing.pop(name, None) or self.records.pop(name, None)
        if condition is not None and condition.trouble is not None:
            self._tools.events.lane_resumed(name, condition.trouble.reason)

    def hasten(self, lane: str = "") -> None:
        """Every probe (of a lane) is due now: something changed that may have been in the way."""
        now = self._tools.clock.monotonic()
        if lane:
            if lane in self.records:
                self.records[lane] = replace(self.records[lane], until=now)
                heappush(self._due, (now, lane))
            return
        self.records = {name: replace(condition, until=now) for name, condition in self.records.items()}
        self._plan()

    def _plan(self) -> None:
        self._due = [(condition.until, name) for name, condition in self.records.items()]
        heapify(self._due)

    def due(self, now: float) -> bool:
        """True when a probe may be begun at `now` (monotonic seconds)."""
        return bool(self._due) and self._due[0][0] <= now and len(self.probing) < self._tools.bounds.probes

    def probe_due(self, now: float, n: int) -> bool:
        """Begin up to n of the probes that are due at `now`. True when there are more."""
        while n and self.due(now):
            until, name = heappop(self._due)
            condition = self.records.get(name)
            if condition is not None and condition.until == until:
                self._probe(name, condition, now)
                n -= 1
        return self.due(now)

    def _probe(self, name: str, condition: Condition, now: float) -> None:
        try:
            due = self._tools.queue.next_due(name)
        except QueueError:  # the queue has told what is wrong; it may be over soon
            self.records[name] = replace(condition, until=now + PROBE_FIRST)
            heappush(self._due, (now + PROBE_FIRST, name))
            return
        del self.records[name]
        self.probing[name] = condition
        if due is None:  # nothing waits: nobody needs to know
            self.remove(name)
            self._tools.queue.unclaim(name)
        else:
            self._begin(name, condition, now)

    def _begin(self, name: str, condition: Condition, now: float) -> None:
        lane = self._revive(name, step(condition, Event.DUE, now))
        if name in self.mixed and not lane.gone:
            self._sort(name)
        lane.probe()

    # --- what goes another way since a reload

    def reloaded(self) -> None:
        """Another configuration: each lane is probed now, and what goes another way leaves it, even while its
        next hop stays in trouble."""
        self.mixed.update(self.records, self.probing, self.away)
        self.hasten()

    def _sort(self, name: str) -> None:
        """Take what is due, send on what belongs to other lanes, and put the rest back."""
        tools = self._tools
        room = min(CHUNK, tools.room(True))
        if room > 0 and not tools.stopping:
            tools.settling.held += room
            tools.queue.take(name, room).add_done_callback(partial(self._sorted, name, room))

    def _sorted(self, name: str, room: int, future: Future[list[Entry]]) -> None:
        tools, entries = self._tools, self._leased(room, future)
        ways = [
            {tools.table.lane(entry.sender, recipient.address) for recipient in entry.recipients}
            for entry in entries
        ]
        for entry, others in zip(entries, ways, strict=True):
            tools.settling.give_back(entry, None if name in others else min(others))
        if len(entries) == room and not any(name in others for others in ways):
            self._sort(name)

    def _leased(self, room: int, future: Future[list[Entry]]) -> list[Entry]:
        """What a take brought, with the places that it did not need given back."""
        entries = [] if future.cancelled() or future.exception() is not None else future.result()
        self._tools.settling.held -= room - len(entries)
        return entries

    def _announce(self, name: str, condition: Condition) -> None:
        trouble = condition.trouble
        if trouble is not None:
            seconds = condition.until - self._tools.clock.monotonic()
            said = f"{trouble.host}: {trouble.reply.line}" if trouble.host else trouble.reply.line
            self._tools.events.lane_suspended(name, trouble.reason, seconds, said)

    def _evict(self) -> None:
        tools, name = self._tools, next(iter(self.records))
        condition, now = self.records.pop(name), tools.clock.monotonic()
        until = max(condition.until, now + longest_wait(tools.random.random()))
        trouble = condition.trouble and _wordless(condition.trouble.reason)
        self.away[name] = replace(condition, until=until, trouble=trouble)
        tools.queue.unclaim(name, tools.clock.time() + until - now)
        if len(self.away) > tools.bounds.away:
            forgotten = next(iter(self.away))
            del self.away[forgotten]
            self.mixed.discard(forgotten)
            tools.events.lane_forgotten(forgotten)

    def _expire(self, name: str, route: str, trouble: Trouble, probes: int, lane: Lane) -> None:
        """Take what is over give_up, if the lane was probed often enough for it."""
        tools, retry = self._tools, self._tools.settling.retry
        room = min(CHUNK, tools.room(True))
        if name in self._expiring or tools.stopping or room <= 0 or not expired(float("inf"), probes, retry):
            return
        self._expiring.add(name)
        tools.settling.held += room
        future = tools.queue.take(
            name,
            room,
            older_than=tools.settling.ages.accepted_before(retry.give_up),
            from_future=tools.clock.monotonic() - lane.condition.since >= retry.give_up,
        )
        future.add_done_callback(partial(self._taken, room, route, trouble, probes, lane))

    def _taken(
        self, room: int, route: str, trouble: Trouble, probes: int, lane: Lane, future: Future[list[Entry]]
    ) -> None:
        tools, entries = self._tools, self._leased(room, future)
        self._expiring.discard(lane.name)
        now, retry, ages = tools.clock.time(), tools.settling.retry, tools.settling.ages
        for entry in entries:
            since = accepted_by_this_clock(entry, now)
            if since <= now and expired(now - since - ages.unlived(since), probes, retry):
                tools.settling.expire(entry, route, lane, trouble)
            else:
                tools.settling.give_back(entry)
        if entries and len(entries) == room:
            self._expire(lane.name, route, trouble, probes, lane)


def accepted_by_this_clock(entry: Entry, now: float) -> float:
    """When it was accepted. The ids, which say when, stay ahead where the clock once was ahead; what was
    never tried has been due since then."""
    return entry.due if entry.fresh and entry.accepted > now + CLOCKS_DIFFER else entry.accepted


@cache
def _wordless(reason: str) -> Trouble:
    return Trouble(reason, Reply(0, "4.4.0", "what was said is not kept: too many next hops are in trouble"))


def _told(before: Condition | None, condition: Condition) -> bool:
    """A fault of the route is told when it begins, not at each probe."""
    if before is None or before.trouble is None or condition.trouble is None:
        return False
    return before.trouble.reason == condition.trouble.reason in FAULT_REASONS
