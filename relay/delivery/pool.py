"""The connections of all lanes together, or of all lanes of a route: one limit, the idle ones in the order
they fell idle, who waits for a place.

A place is taken before a connection is opened and given back when it is closed. When all are taken, the
connection that was idle longest is closed for whoever has work; lanes that have none at all wait in line. No
timers: the scheduler asks `stale` now and then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from relay.delivery.job import Job, Verdict


class Link(Protocol):
    """What a lane needs of a Connection (connection.py has it)."""

    host: str
    setup: float
    messages: int
    on_lost: Callable[[Any], None] | None
    on_ended: Callable[[Any], None] | None

    @property
    def idle(self) -> bool: ...
    @property
    def ended(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def past_dot(self) -> bool: ...
    def start(self, job: Job, done: Callable[[Any, Job, Verdict], None]) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    async def wait_closed(self) -> None: ...


class Holder(Protocol):
    """A lane, as the pool sees it."""

    def give_up(self, link: Link) -> None:
        """Close this idle connection."""

    def pump(self) -> None:
        """There may be a place now."""


class Pool:
    """limit: connections in all its lanes, None: no limit of its own; taken: places in use (open or being
    opened). A pool may lie within another: a place in it is a place in both."""

    def __init__(self, limit: int | None, within: Pool | None = None) -> None:
        self.limit = limit
        self.within = within
        self.taken = 0
        self._idle: dict[Link, tuple[Holder, float]] = {}
        self._waiting: dict[Holder, None] = {}

    @property
    def crowded(self) -> bool:
        """True when somebody waits for a place."""
        return bool(self._waiting) or (self.within is not None and self.within.crowded)

    @property
    def full(self) -> bool:
        return self.limit is not None and self.taken >= self.limit

    def reserve(self, holder: Holder) -> bool:
        """Take a place. False: none is free, and `holder.pump` is called when one may be."""
        if self.full and not self._evict():
            self._waiting[holder] = None
            return False
        if self.within is not None and not self.within.reserve(holder):
            return False
        self.taken += 1
        self._waiting.pop(holder, None)
        return True

    def try_reserve(self) -> bool:
        """Take a place that is free or idle now, for work that can do without. Nobody waits in line before
        it."""
        if self._waiting or (self.full and not self._evict()):
            return False
        if self.within is not None and not self.within.try_reserve():
            return False
        self.taken += 1
        return True

    def release(self) -> None:
        """Give a place back."""
        self.taken -= 1
        if self.within is not None:
            self.within.release()

    def park(self, link: Link, holder: Holder, now: float) -> None:
        """`link` is idle from `now` (monotonic seconds)."""
        self._idle[link] = (holder, now)
        if self.within is not None:
            self.within.park(link, holder, now)

    def unpark(self, link: Link) -> None:
        """`link` is used or gone. Idempotent."""
        self._idle.pop(link, None)
        if self.within is not None:
            self.within.unpark(link)

    def stale(self, before: float) -> list[tuple[Link, Holder]]:
        """Connections idle since before `before` (monotonic seconds)."""
        found = []
        for link, (holder, since) in self._idle.items():
            if since > before:
                break
            found.append((link, holder))
        return found

    def forget(self, holder: Holder) -> None:
        """`holder` wants no place any more. Idempotent."""
        self._waiting.pop(holder, None)
        if self.within is not None:
            self.within.forget(holder)

    def serve(self) -> None:
        """Let those who wait try again, as many as there are free places, first come first served."""
        line = deque(self._waiting)
        free = len(line) if self.limit is None else self.limit - self.taken
        while line and free > 0:
            holder = line.popleft()
            if self._waiting.pop(holder, self) is None:
                holder.pump()
            free -= 1
        if self.within is not None:
            self.within.serve()

    def _evict(self) -> bool:
        for link, (holder, _) in self._idle.items():
            holder.give_up(link)
            return True
        return False
