"""Threads that do things for the event loop, and call back on the loop.

Lean: a call costs a thread of Python's few instructions, since each time it wants the interpreter it takes it
from the loop.

A busy loop starves such a thread: it lets go of the interpreter only for the moment of its poll and takes it
back before the thread has woken up, so the thread waits for a whole switch interval, or for ever. So while a
Worker's thread has work the loop stands aside now and then, for some 60 microseconds: enough for the thread
to wake up and take the interpreter. queue/README.md has the figures.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_ASIDE = 1e-5  # s; the kernel makes about 60 microseconds of it
_FIRST = 0.001  # s until the loop stands aside again, doubled each time
_LONGEST = 0.01

Done = Callable[[Any, Exception | None], None]


class Threads:
    """Started with the first call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, number: int) -> None:
        self._loop = loop
        self._name, self._number = name, number
        self._started = 0
        self._calls: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()

    def call(self, function: Callable[[], Any], done: Done) -> None:
        """Run function in a thread, then done(result, error) on the loop."""
        if not self._started:
            self._start()
        self._calls.put((function, done))

    def _start(self) -> None:
        """Daemons: a sync that hangs for ever must not keep the process from ending."""
        self._started = self._number
        for _ in range(self._number):
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _come_back(self, done: Done, result: Any, error: Exception | None) -> None:
        done(result, error)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, done = call
            result, error = None, None
            try:
                result = function()
            except Exception as caught:  # handed over, not handled
                error = caught
            try:
                self._loop.call_soon_threadsafe(self._come_back, done, result, error)
            except RuntimeError:  # the loop is closed: there is nobody left to tell
                return
            del call, function, done, result, error  # not kept while it waits

    def stop(self) -> None:
        """Ends the threads when what was asked for before is done; does not wait."""
        for _ in range(self._started):
            self._calls.put(None)


class Worker(Threads):
    """One thread that does one thing after another, and is not starved. There from the start: a system that
    has no thread left says so then, not to a queue at work."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        super().__init__(loop, name, 1)
        self._start()
        self._waiting = 0  # calls that have not come back
        self._interval = _FIRST
        self._timer: asyncio.TimerHandle | None = None

    def call(self, function: Callable[[], Any], done: Done) -> None:
        self._waiting += 1
        super().call(function, done)
        self._interval = _FIRST
        self._stand_aside()

    def _stand_aside(self) -> None:
        """Let the thread run: now, and again until it is done."""
        time.sleep(_ASIDE)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._interval, self._stand_aside)
        self._interval = min(2 * self._interval, _LONGEST)

    def _come_back(self, done: Done, result: Any, error: Exception | None) -> None:
        self._waiting -= 1
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super()._come_back(done, result, error)
