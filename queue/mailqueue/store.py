"""The directory of content files, and the threads that write, sync and remove them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mailqueue import durable
from mailqueue.content import Content, Finished
from mailqueue.entry import message_name
from mailqueue.observer import Observer
from mailqueue.worker import Threads

_THREADS = 4
_BLOCK, _LARGEST_BLOCK = 256 * 1024, 1024 * 1024  # octets
_BLOCKS = 8 * 1024 * 1024  # octets of one block each of all files, where that is more than _BLOCK each


class Store:
    def __init__(
        self,
        directory: Path,
        inline_limit: int,
        new_id: Callable[[], int],
        observer: Observer,
        on_failed: Callable[[Exception], None],
    ) -> None:
        """on_failed: the sync of the directory failed, which no later sync can mend."""
        self.directory = directory
        self.inline_limit = inline_limit
        self.new_id = new_id
        self._observer = observer
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(self._loop, "mailqueue-content", _THREADS)
        self._running = 0
        self._idle: list[asyncio.Future[None]] = []
        self.writing: set[Content] = set()  # to their files, and more is to come
        self._waiting: list[Finished] = []  # for the next sync of the directory
        self._syncing = False

    def new(self) -> Content:
        return Content(self)

    def path(self, message: int) -> Path:
        return self.directory / message_name(message)

    @property
    def block(self) -> int:
        """Octets handed to the disk at a time: each time costs the loop a change of threads, or three. The
        fewer files are written at once the more."""
        return max(_BLOCK, min(_LARGEST_BLOCK, _BLOCKS // (len(self.writing) or 1)))

    def run(self, function: Callable[[], None], done: Finished) -> None:
        """Run in a thread, then done(error) on the loop."""
        self._running += 1
        self._threads.call(function, partial(self._ended, done))

    def _ended(self, done: Finished, _: None, error: Exception | None) -> None:
        self._running -= 1
        done(error)
        if not self._running:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                waiter.set_result(None)

    def sync_directory(self, done: Finished) -> None:
        """One sync serves all who asked before it began."""
        self._waiting.append(done)
        if not self._syncing:
            self._sync_directory()

    def _sync_directory(self) -> None:
        self._syncing = True
        served, self._waiting = self._waiting, []
        self.run(partial(durable.sync_directory, self.directory), partial(self._directory_synced, served))

    def _directory_synced(self, served: list[Finished], error: Exception | None) -> None:
        self._syncing = False
        if error is not None:
            self._observer.spool_error("sync", error)
            self._on_failed(error)
        for done in served:
            done(error)
        if self._waiting:
            self._sync_directory()

    def remove(self, messages: Iterable[int], descriptor: int = -1) -> None:
        """Remove these content files in a thread; descriptor: one to close first."""
        paths = [self.path(message) for message in messages]

        def work() -> None:
            if descriptor >= 0:
                os.close(descriptor)
            for path in paths:
                durable.remove(path)

        self.run(work, self._removed)

    def _removed(self, error: Exception | None) -> None:
        if error is not None:  # the file stays, as an orphan for the next start
            self._observer.spool_error("cleanup", error)

    async def wait(self) -> None:
        """Returns when no thread has anything to do any more."""
        while self._running:
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def close(self) -> None:
        await self.wait()
        self._threads.stop()
