"""A time-out that costs one attribute to put off: no timer is made or cancelled per command.

One timer per session wakes every TICK seconds and looks at the deadline, so a time-out is noticed up to TICK
late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICK = 15.0  # seconds


class Deadline:
    """Calls `tick` every TICK seconds until cancelled; `at` (loop time) and `passed` say how it stands,
    `since` when it was put off last."""

    __slots__ = ("_handle", "_loop", "_tick", "at", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, tick: Callable[[], None]) -> None:
        self._loop = loop
        self._tick = tick
        self.put(seconds)
        self._handle = loop.call_later(TICK, self._wake)

    def put(self, seconds: float) -> None:
        """The deadline is that many seconds from now."""
        self.since = self._loop.time()
        self.at = self.since + seconds

    @property
    def passed(self) -> bool:
        return self._loop.time() >= self.at

    def cancel(self) -> None:
        self._handle.cancel()

    def _wake(self) -> None:
        self._handle = self._loop.call_later(TICK, self._wake)
        self._tick()
