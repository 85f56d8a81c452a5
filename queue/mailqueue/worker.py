"""One thread that does one thing after another for the event loop, and calls back on the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Worker:
    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._calls: SimpleQueue[tuple[Callable[[], Any], Callable[[Any, Exception | None], None]] | None]
        self._calls = SimpleQueue()
        # A daemon: a sync that hangs for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Any], done: Callable[[Any, Exception | None], None]) -> None:
        """Run function in the thread, then done(result, error) on the loop."""
        self._calls.put((function, done))

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, done = call
            result, error = None, None
            try:
                result = function()
            except Exception as caught:  # handed over, not handled
                error = caught
            try:
                self._loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:  # the loop is closed: there is nobody left to tell
                return

    def stop(self) -> None:
        """Ends the thread when what was asked for before is done; does not wait."""
        self._calls.put(None)
