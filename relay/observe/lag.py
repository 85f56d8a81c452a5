"""How late the event loop runs: a timer that compares when it should have run with when it did."""

from __future__ import annotations

import asyncio

from relay.observe.running import ProcessEvents

INTERVAL = 0.5  # s


class LoopLag:
    """Tells events.loop_lag every half second from start() to stop()."""

    def __init__(self, events: ProcessEvents) -> None:
        self._events = events
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(INTERVAL, self._tick, loop, loop.time() + INTERVAL)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self, loop: asyncio.AbstractEventLoop, expected: float) -> None:
        self._events.loop_lag(max(0.0, loop.time() - expected))
        self.start(loop)
