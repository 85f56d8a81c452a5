"""The event loop's lag: the difference between when a timer should have run and when it did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from relay.observe.events import Events
from relay.observe.lag import INTERVAL, LoopLag


class FakeTimer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A loop whose time and timers the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []
        self.timer = FakeTimer()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> FakeTimer:
        self.calls.append((self.now + delay, call, arguments))
        return self.timer


def test_lateness_is_measured_again_and_again() -> None:
    """In time: 0; two seconds late: 2; after that in time again. stop() ends it."""
    events, loop = Events(), FakeLoop()
    watch = LoopLag(events)
    watch.start(cast(asyncio.AbstractEventLoop, loop))
    seen = []
    for late in (0.0, 2.0, 0.0):
        due, call, arguments = loop.calls.pop()
        assert due == loop.now + INTERVAL
        loop.now = due + late
        call(*arguments)
        seen.append(events.lag)
    assert seen == [0.0, 2.0, 0.0]
    watch.stop()
    assert loop.timer.cancelled
    assert sum(events.metrics.lag.cell().counts) == 3
