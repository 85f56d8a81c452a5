"""A rate that lanes share: who may send now, who may lease, who waits; one timer for all of them.

Each route with a rate has one Throttle for all its lanes, each domain of `mx:` has its own. Two lines, both
first come first served: `_senders` have entries in hand and wait for the rate, `_takers` have entries on disk
and wait for room. Room is what the rate can carry in AHEAD seconds: everything else waits on disk, where it
costs nothing and is in nobody's way. A lane without a connection yet is not counted among what is ready (its
next hop may be dead), so it may lease one entry, and only STARTING of them in AHEAD seconds.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from relay.delivery.pool import Holder
from relay.delivery.rate import Bucket, Rate

if TYPE_CHECKING:
    from relay.delivery.neighbours import Clock
    from relay.routing.table import LanePolicy

Line = dict[Holder, int] | dict[Holder, None]

AHEAD = 2.0  # seconds; a lease taken earlier would only be at risk in a crash
PATIENCE = 100.0  # seconds that an open connection waits for the rate; hosts hang up on what is idle
STARTING = 5  # lanes of one rate that may lease within AHEAD while they have no connection
AWAY_MOST = 300.0  # seconds; the rate may be changed meanwhile
_RESTING_MOST = 10_000  # throttles without a lane whose time has not come yet
_LEAST = 0.001  # seconds, of a timer


class Throttle:
    """One bucket and its lines. Holders are lanes."""

    __slots__ = (
        "__weakref__", "_clock", "_ready", "_senders", "_starting", "_tail", "_takers", "_timer", "_turn",
        "bucket", "held",
    )  # fmt: skip

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self.bucket = Bucket(rate)
        self.held = 0  # in hand, by lanes with a connection
        self._clock = clock
        self._ready: dict[Holder, int] = {}
        self._starting: dict[Holder, float] = {}  # without a connection, and since when
        self._senders: dict[Holder, int] = {}  # with the messages that its next entry makes
        self._takers: dict[Holder, None] = {}
        self._tail = 0.0  # when the last of those who were sent away comes again
        self._turn: tuple[Holder, Line] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- sending

    def ready(self, holder: Holder, messages: int) -> bool:
        """May so many messages go now? False: `holder` stands in line, its pump is called when they may."""
        now = self._clock.monotonic()
        if self._first(self._senders, holder) and not self.bucket.wait(now, messages):
            self._senders.pop(holder, None)
            return True
        self._senders[holder] = messages
        self._arm(now)
        return False

    def soon(self, messages: int) -> bool:
        """True when so many more in front of all others would not wait for long."""
        most = min(max(AHEAD, self.bucket.interval), PATIENCE)
        return self.bucket.wait(self._clock.monotonic(), messages) <= most

    def reserve(self, messages: int) -> float | None:
        """Charge so many messages that go before all others: in so many seconds. None: not soon, not
        charged."""
        now = self._clock.monotonic()
        wait = self.bucket.wait(now, messages)
        if wait > PATIENCE:
            return None
        self.bucket.charge(now + wait, messages)
        return wait

    # --- leasing

    def holds(self, holder: Holder, entries: int, connected: bool) -> None:
        """`holder` has so many entries in hand (leased or about to be, and not sent)."""
        before = self.held
        self.held -= self._ready.pop(holder, 0)
        if entries and connected:
            self._ready[holder] = entries
            self.held += entries
        if entries and not connected:
            self._starting.setdefault(holder, self._clock.monotonic())
        else:
            self._starting.pop(holder, None)
        if self._takers and self.held < before:
            self._set_timer(0.0)

    def admits(self, holder: Holder, entries: int, connected: bool) -> bool:
        """May a fresh entry be leased by a holder that has so many in hand? Not while others wait on disk."""
        if self._takers or not (connected or self._starts(entries)):
            return False
        return self.bucket.ahead(self._clock.monotonic(), AHEAD) > self.held

    def room(self, holder: Holder, entries: int, connected: bool) -> int:
        """How many more `holder` may lease, which has so many in hand. 0: none now; where that is for the
        rate, it stands in line and its pump is called."""
        if not (connected or self._starts(entries)):
            self._takers.pop(holder, None)
            return 0
        now = self._clock.monotonic()
        room = self.bucket.ahead(now, AHEAD) - self.held
        if room > 0 and self._first(self._takers, holder):
            self._takers.pop(holder, None)
            return max(1, room // (1 + len(self._takers))) if connected else 1
        self._takers.setdefault(holder)
        self._arm(now)
        return 0

    def later(self) -> float:
        """When one who wants room comes again (monotonic seconds), if it does not stand in line: one after
        the other, as the rate has room for them."""
        now = self._clock.monotonic()
        self._tail = max(self._tail, now) + self.bucket.interval
        if self._tail > now + AWAY_MOST:
            self._tail = now + self.bucket.interval
        return min(self._tail, now + AWAY_MOST)

    def _starts(self, entries: int) -> bool:
        """May a lane without a connection lease its first entry?"""
        if entries:
            return False
        since = next(islice(reversed(self._starting.values()), STARTING - 1, None), None)
        return since is None or self._clock.monotonic() - since >= AHEAD

    # --- turns

    def waits(self, holder: Holder) -> bool:
        """True while `holder` stands in a line."""
        return holder in self._senders or holder in self._takers

    def leave(self, holder: Holder) -> None:
        """`holder` wants nothing any more. Idempotent."""
        self._senders.pop(holder, None)
        self._takers.pop(holder, None)
        self.holds(holder, 0, False)

    def serve(self) -> None:
        """Give everybody a turn whose time has come. Who has had one leaves the line, or begins again at its
        end."""
        now = self._clock.monotonic()
        while self._senders:
            holder, messages = next(iter(self._senders.items()))
            if self.bucket.wait(now, messages):
                break
            del self._senders[holder]
            self._give_turn(holder, self._senders)
        for _ in range(len(self._takers)):
            if not self._takers or self.bucket.ahead(now, AHEAD) <= self.held:
                break
            holder = next(iter(self._takers))
            del self._takers[holder]
            self._give_turn(holder, self._takers)
        self._arm(now)

    def renew(self, rate: Rate) -> None:
        """Another rate from now on."""
        self.bucket.renew(rate)
        self._arm(self._clock.monotonic())

    def _give_turn(self, holder: Holder, line: Line) -> None:
        self._turn = (holder, line)
        try:
            holder.pump()
        finally:
            self._turn = None

    def _first(self, line: Line, holder: Holder) -> bool:
        if self._turn is not None and self._turn[0] is holder and self._turn[1] is line:
            return True
        return not line or next(iter(line)) is holder

    def _arm(self, now: float) -> None:
        """The timer runs to the next turn. Where time alone does not bring it, an event or the sweep does."""
        if self._turn is not None:
            return
        if self._senders:
            self._set_timer(self.bucket.wait(now, next(iter(self._senders.values()))))
        elif self._takers and self.bucket.wait(now) > AHEAD:
            self._set_timer(self.bucket.wait(now) - AHEAD)

    def _set_timer(self, seconds: float) -> None:
        """Ring in `seconds` at the latest."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(seconds, _LEAST)
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.serve()


class Throttles:
    """Every throttle by what it is for: a route, or a lane of `mx:`. It lives as long as a lane has it, and
    until its next message may go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all: WeakValueDictionary[str, Throttle] = WeakValueDictionary()
        self._resting: OrderedDict[str, Throttle] = OrderedDict()

    def of(self, policy: LanePolicy) -> Throttle | None:
        """What holds the lane back; None without a rate. A rate that has changed takes effect."""
        if policy.rate is None:
            return None
        name, rate = _name(policy), Rate(*policy.rate)
        throttle = self._all.get(name)
        if throttle is None:
            throttle = self._all[name] = Throttle(rate, self._clock)
        elif throttle.bucket.rate != rate:
            throttle.renew(rate)
        return throttle

    def rest(self, policy: LanePolicy, throttle: Throttle) -> None:
        """A lane is done with it: keep it until its next message may go. Bounded: the oldest is forgotten."""
        now = self._clock.monotonic()
        while self._resting and not next(iter(self._resting.values())).bucket.wait(now):
            self._resting.popitem(last=False)
        if throttle.bucket.wait(now):
            self._resting[_name(policy)] = throttle
            self._resting.move_to_end(_name(policy))
        while len(self._resting) > _RESTING_MOST:
            self._resting.popitem(last=False)


def _name(policy: LanePolicy) -> str:
    return policy.lane if policy.route == "mx" else f"route:{policy.route}"
