"""One lane in memory: what waits, what it is carried by, how it fares.

`pump` is the heart: next entry, idle connection, start; it is a plain function, called whenever something
changed, and there is no task for a message. Fresh mail (just accepted, straight from memory) and what was
taken from disk take turns. A lane with a rate asks its throttle before it sends and before it leases
(throttle.py). A lane exists in memory only while it has work in hand or connections; the scheduler makes and
drops it.
"""

from __future__ import annotations

from asyncio import Future
from collections import Counter, deque
from functools import partial

from mailqueue.entry import Entry
from mailqueue.errors import QueueError
from relay.delivery.carry import Carrier
from relay.delivery.health import HEALTHY, Condition, Event, Health, Trouble, step
from relay.delivery.links import Links
from relay.delivery.pool import Link
from relay.delivery.settling import Lease
from relay.delivery.throttle import Throttle
from relay.delivery.tools import Tools
from relay.delivery.transaction import transactions
from relay.delivery.window import Window
from relay.outcome import Failed
from relay.reply import Reply
from relay.routing.table import LanePolicy

_TAKE_AGAIN = 5.0  # seconds after a take that failed


class Lane:
    """takes: entries may be taken and sent. more: something on disk can be taken. due_at: monotonic seconds,
    when the next of what waits on disk is due, 0.0 unknown or none. promised: entries admitted and not yet
    leased; taking: entries asked for. slowed: monotonic seconds since when the rate holds something back,
    0.0: it does not. away: monotonic seconds, until when it need not be in memory to wait for its rate."""

    __slots__ = (
        "_fresh_next", "_pumping", "away", "carrier", "condition", "due_at", "fresh", "gone", "links", "more",
        "name", "policy", "promised", "slowed", "takes", "taking", "throttle", "tools", "waiting",
    )  # fmt: skip

    def __init__(
        self, name: str, policy: LanePolicy | None, tools: Tools, condition: Condition = HEALTHY
    ) -> None:
        """policy None: the name means nothing (any more); what comes is sent on to the lanes it belongs
        to."""
        self.name = name
        self.gone = policy is None
        self.policy = policy or LanePolicy(name, "mx", "via", "", (), None, 25, "none", 20, 100)
        self.tools = tools
        self.condition = condition
        self.takes = condition.takes
        self.links = Links(self, self.policy, tools)
        self.throttle = tools.throttles.of(self.policy)
        self.carrier = Carrier(self)
        self.fresh: deque[Lease] = deque()
        self.waiting: deque[Lease] = deque()
        self.more = False
        self.taking = 0
        self.promised = 0
        self.slowed = 0.0
        self.away = 0.0
        self.due_at = 0.0
        self._fresh_next = True
        self._pumping = False

    # --- what comes in

    def admits(self) -> bool:
        """May one more fresh entry be leased? Each True is a promise until the entry comes, or
        is taken back (unadmit)."""
        if not self.takes:
            return False
        waiting = len(self.fresh) + self.promised
        bounds = self.tools.bounds
        if waiting >= bounds.per_connection * self.policy.concurrency:
            return False
        if not self.tools.room(not waiting):
            return False
        if self.throttle is not None and not self._admits_in_rate(self.throttle):
            return False
        self.promised += 1
        return True

    def unadmit(self) -> None:
        """What was promised does not come."""
        if self.promised:
            self.promised -= 1

    def leased(self, entry: Entry) -> None:
        """A fresh entry, durable and ours."""
        tools = self.tools
        tools.settling.held += 1
        if self.promised:
            self.promised -= 1
        if self.gone or not self.takes:
            return self._sort(entry)
        if entry.content is not None:
            tools.memory += len(entry.content)
            if tools.memory > tools.bounds.memory:
                tools.memory -= len(entry.content)
                entry.content = None  # read again when its turn comes
        self.fresh.append(Lease(entry, tools.clock.monotonic(), range(len(entry.recipients))))
        self.pump()

    def due(self) -> None:
        """Something of this lane on disk can be taken now."""
        self.more = True
        if not self._pumping:
            self.pump()

    def due_again(self, due: float) -> None:
        """An entry of this lane waits on disk until `due` (epoch seconds): waited for by the monotonic clock,
        since the other may be set back by years. Said to a lane that was suspended or dropped meanwhile, it
        is meant for the one that has its name now."""
        lane = self.tools.lanes.get(self.name, self)
        at = self.tools.clock.monotonic() + due - self.tools.clock.time()
        if not lane.due_at or at < lane.due_at:
            lane.due_at = at

    # --- the heart

    def pump(self) -> None:
        """Give idle connections work, open more, take more: whatever is possible now."""
        if self._pumping:
            return
        if self.condition.health is Health.PROBING:
            return self.probe()
        self._pumping = True
        try:
            throttle = self.throttle
            while self.takes and (self.fresh or self.waiting) and not self.tools.stopping:
                if throttle is not None:
                    if self._send_in_rate(throttle):
                        continue
                    break
                link = self.links.use()
                if link is None:
                    self.links.open_more(len(self.fresh) + len(self.waiting))
                    break
                self.carrier.send(self._next(), link)
        finally:
            self._pumping = False
        if self.throttle is not None and self.takes:
            self.throttle.holds(self, self.in_hand, self.links.working > 0)
            if not (self.more or self.in_hand):
                self.slowed = 0.0
        if self.more and self.takes and not self.taking:
            self._take()

    def _next(self) -> Lease:
        """Fresh and taken entries in turns."""
        if self.fresh and (self._fresh_next or not self.waiting):
            self._fresh_next = False
            lease = self.fresh.popleft()
            self._unload(lease.entry)
            return lease
        self._fresh_next = True
        return self.waiting.popleft()

    def again(self, lease: Lease) -> None:
        """It was not tried after all: first in line, on another connection."""
        if self.takes and not self.tools.stopping:
            self.waiting.appendleft(lease)
        else:
            self.tools.settling.give_back(lease.entry)

    # --- from disk

    def _take(self) -> None:
        connections = min(self.policy.concurrency, 2 * int(self.links.window.size))
        batch = max(2, connections * self.tools.bounds.per_connection)
        if 2 * len(self.waiting) > batch or self.tools.stopping:
            return
        n = min(batch, self.tools.room(not self.waiting and not self.links.busy))
        if n > 0 and self.throttle is not None:
            n = min(n, self._room_in_rate(self.throttle))
        if n > 0:
            self.taking, self.more = n, False
            self.tools.settling.held += n
            self.tools.queue.take(self.name, n).add_done_callback(partial(self._taken, n))

    def _taken(self, n: int, future: Future[list[Entry]]) -> None:
        self.taking = 0
        if future.cancelled() or future.exception() is not None:
            self.tools.settling.held -= n  # the queue has told what is wrong; it may be over soon
            return self.due_again(self.tools.clock.time() + _TAKE_AGAIN)
        entries = future.result()
        self.tools.settling.held -= n - len(entries)
        for entry in entries:
            self._sort(entry)
        if len(entries) == n:
            self.more = True
        else:
            self._look_ahead()
        self.pump()

    def _look_ahead(self) -> None:
        """When is the next of what waits on disk due?"""
        try:
            due = self.tools.queue.next_due(self.name)
        except QueueError:  # the queue has told what is wrong; it may be over soon
            due = self.tools.clock.time() + _TAKE_AGAIN
        if due is not None:
            self.due_again(due)

    def _sort(self, entry: Entry) -> None:
        """Into the line, or out of this lane: since a reload (or a restart) its recipients may go another
        way."""
        settling = self.tools.settling
        if not self.takes or self.tools.stopping:
            return settling.give_back(entry)
        lane = self.tools.table.lane
        ways = [lane(entry.sender, recipient.address) for recipient in entry.recipients]
        todo = [index for index, way in enumerate(ways) if way == self.name]
        others = Counter(way for way in ways if way != self.name)
        if todo:
            move = min(others) if others else ""
            self.waiting.append(Lease(entry, self.tools.clock.monotonic(), todo, move))
        else:
            settling.give_back(entry, min(others))

    # --- within its rate

    @property
    def in_hand(self) -> int:
        """Entries leased and not sent, or about to be."""
        return len(self.fresh) + len(self.waiting) + self.promised + self.taking

    def _send_in_rate(self, throttle: Throttle) -> bool:
        """Start the next entry. False: not now; the throttle, or a connection, has pump called."""
        now, messages = self.tools.clock.monotonic(), transactions(len(self._peek().todo))
        if not throttle.ready(self, messages):
            self.slowed = self.slowed or now
            return False
        if self.slowed:
            self.tools.events.throttled(self.policy.route, now - self.slowed)
            self.slowed = 0.0
        link = self.links.use(messages)
        if link is None:
            self.links.open_more(1)
            return False
        throttle.bucket.charge(now, messages)
        self.carrier.send(self._next(), link)
        return True

    def _admits_in_rate(self, throttle: Throttle) -> bool:
        """Room for one more; not while others wait for it."""
        if not throttle.admits(self, self.in_hand, self.links.working > 0):
            return False
        throttle.holds(self, self.in_hand + 1, self.links.working > 0)
        return True

    def _room_in_rate(self, throttle: Throttle) -> int:
        room = throttle.room(self, self.in_hand, self.links.working > 0)
        if room > 0:
            throttle.holds(self, self.in_hand + room, self.links.working > 0)
        else:
            if not self.in_hand:  # else what there is waits for a connection, unless _send_in_rate has seen
                self.slowed = self.slowed or self.tools.clock.monotonic()
            if self.tools.crowded and not (self.in_hand or self.links.total):
                self.away = self.due_at = throttle.later()
                self.more = False
        return room

    def _peek(self) -> Lease:
        """What `_next` gives."""
        return self.fresh[0] if self.fresh and (self._fresh_next or not self.waiting) else self.waiting[0]

    # --- how it fares (Links tells)

    def opened(self) -> None:
        if self.condition.health is Health.PROBING:
            self.links.window = Window(self.policy.concurrency, initial=1)
            self._resume(Event.OPENED)
        if not self.takes or self.tools.stopping:
            return self.links.close_idle()
        self.pump()

    def give_up(self, link: Link) -> None:
        """The place of this idle connection is needed elsewhere."""
        self.links.give_up(link)

    def unreachable(self, trouble: Trouble) -> None:
        if self.links.working:
            self.links.window.refused(self.links.working, self.tools.clock.monotonic())
        elif not self.links.opening and not self.tools.stopping:
            self.trouble(trouble)

    def nowhere(self, reply: Reply) -> None:
        """Fail what waits, then what comes, as long as DNS says so: each round asks again."""
        if self.condition.health is Health.PROBING:
            self._resume(Event.GONE)
        failed = Failed(reply, "", "dns")
        for lease in self._drain():
            self.tools.settling.fail(lease, self.policy.route, self, failed)
        self.pump()

    def trouble(self, trouble: Trouble) -> None:
        """Suspend the lane: what is in hand goes back, no attempt is counted, no connection is kept."""
        if self.condition.health is Health.SUSPENDED:
            return
        now, random = self.tools.clock.monotonic(), self.tools.random.random()
        self.condition = step(self.condition, Event.TROUBLE, now, random, trouble)
        self.takes = False
        self.give_back()
        self.leave()
        self.tools.suspended(self)

    def grew(self) -> None:
        """A transaction took place, whatever it meant for the message."""
        if self.condition.health is Health.RAMPING and not self.condition.proved:
            self.condition = step(self.condition, Event.SENT, 0.0)
        window = self.links.window
        if window.size < window.limit:
            window.succeeded(self.tools.clock.monotonic())
        elif self.condition.health is Health.RAMPING:
            self.condition = step(self.condition, Event.GROWN, 0.0)

    def probe(self) -> None:
        """Try to open one connection; no entry is taken for it."""
        if self.gone:  # nothing to open: what waits goes the ways it has since the reload
            self._resume(Event.GONE)
            return self.pump()
        if not self.links.working and not self.tools.stopping:
            self.links.open_more(1)

    def _resume(self, event: Event) -> None:
        self.tools.resumed(self)
        self.condition = step(self.condition, event, self.tools.clock.monotonic())
        self.takes = self.more = True

    # --- the sweep, reload, the end

    def sweep(self, now: float) -> None:
        """Every half second or so. now: monotonic seconds."""
        self.carrier.watch(now)
        if self.due_at and self.due_at <= now:
            self.due_at = 0.0
            self.more = True
        if self.throttle is not None:
            self.throttle.serve()
        self.pump()

    @property
    def quiet(self) -> bool:
        """True when nothing is in hand, under way or kept."""
        if self.in_hand or self.links.total or self.condition.health is Health.PROBING:
            return False
        return not (self.more and self.takes)

    def renew(self, policy: LanePolicy | None) -> None:
        """Another configuration. policy None: the lane means nothing any more, all goes another way."""
        leases = self._drain()
        self.gone = policy is None
        self._leave_throttle()
        if policy is not None:
            self.policy = policy
            self.links.renew(policy)
        self.throttle = self.tools.throttles.of(policy) if policy is not None else None
        for lease in leases:
            self._sort(lease.entry)
        self.pump()

    def give_back(self) -> None:
        """Nothing in hand but what is being sent; no connection but those that send."""
        for lease in self._drain():
            self.tools.settling.give_back(lease.entry)
        self.links.close_idle()

    def leave(self) -> None:
        """Out of memory: others need not wait for it."""
        self.links.pool.forget(self)
        self._leave_throttle()

    def dissolve(self) -> None:
        """Nothing of it is under way: its parts forget it, so that it takes no collection of garbage."""
        del self.links.owner, self.carrier

    def _leave_throttle(self) -> None:
        if self.throttle is not None:
            self.throttle.leave(self)
            self.tools.throttles.rest(self.policy, self.throttle)

    def _drain(self) -> list[Lease]:
        for lease in self.fresh:
            self._unload(lease.entry)
        leases = [*self.waiting, *self.fresh]
        self.waiting.clear()
        self.fresh.clear()
        return leases

    def _unload(self, entry: Entry) -> None:
        if entry.content is not None:
            self.tools.memory -= len(entry.content)
