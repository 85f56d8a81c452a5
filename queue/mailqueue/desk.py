"""What operators see and do: the part of Queue behind the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from mailqueue import tally
from mailqueue.entry import Filter, LaneTally, Row, State, Tally, message_number
from mailqueue.errors import QueueClosed, QueueError
from mailqueue.hooks import Hooks
from mailqueue.job import Barrier, Job
from mailqueue.loading import load
from mailqueue.observer import Observer
from mailqueue.operate import CHUNK, Action, Change
from mailqueue.options import Options, Space
from mailqueue.salvage import Salvage, Salvaged
from mailqueue.schema import ENTRIES_BITS
from mailqueue.search import END, Search
from mailqueue.start import Owned, start

COUNTED = 10_000  # entries counted at a time
T = TypeVar("T")
Find = Callable[..., tuple[list[T], int]]  # Search.rows or Search.numbers


class Desk(Hooks):
    def __init__(self, owned: Owned, options: Options, observer: Observer, now: Callable[[], float]) -> None:
        super().__init__()
        self._parts = start(owned, options, observer, self, now)
        self._closed = False

    def _add(self, job: Job, patient: bool = False) -> None:
        if self._closed:
            job.fail(QueueClosed("the queue is closed"))
        else:
            self._parts.commit.add(job, patient)

    async def flush(self) -> None:
        """Returns when everything asked for so far is durable. QueueFailed, QueueClosed: it will not be."""
        future: asyncio.Future[None] = self._parts.loop.create_future()
        self._add(Barrier(future))
        await future

    async def hold(self, f: Filter) -> int:
        """INCOMING and DEFERRED become HELD; leased ones when they come back. Returns how many."""
        return await self._operate(Action.HOLD, f)

    async def release(self, f: Filter) -> int:
        """HELD ones are due now."""
        return await self._operate(Action.RELEASE, f)

    async def retry(self, f: Filter) -> int:
        """INCOMING and DEFERRED ones are due now."""
        return await self._operate(Action.RETRY, f)

    async def drop(self, f: Filter) -> int:
        """Removed, whatever their state; leased ones when they come back undelivered."""
        return await self._operate(Action.DROP, f)

    async def _operate(self, action: Action, f: Filter) -> int:
        search = Search(f, self._parts.now())
        last = self._parts.ids.new() << ENTRIES_BITS  # what comes in from now on is not meant
        await self.flush()  # what was asked for before is seen by the search
        changed = after = 0
        while numbers := await self._walk(search.numbers, after, CHUNK, last):
            future: asyncio.Future[int] = self._parts.loop.create_future()
            self._add(Change(action, f, numbers, self._parts.writer.leases, future))
            changed += await future
            after = numbers[-1]
        return changed

    async def search(self, f: Filter, after: int = 0, limit: int = 1000) -> list[Row]:
        """Entries that match, by id, beginning after this id. ValueError: f.message is no queue id."""
        return await self._walk(Search(f, self._parts.now()).rows, after, limit)

    async def count(self, f: Filter) -> int:
        """How many match now. ValueError: f.message is no queue id."""
        search = Search(f, self._parts.now())
        counted = after = 0
        while numbers := await self._walk(search.numbers, after, COUNTED):
            counted += len(numbers)
            after = numbers[-1]
        return counted

    async def _walk(self, find: Find[T], after: int, limit: int, last: int = END) -> list[T]:
        """The first `limit` that match. Other searches have their turns meanwhile."""
        found: list[T] = []
        while len(found) < limit and after < last:
            look = partial(find, after=after, limit=limit - len(found), last=last)
            with self._parts.readable():
                part, after = await self._parts.searches.run(look)
            found += part
        return found[:limit]

    async def read_content(self, name: str) -> bytes | Path | None:
        """The content of the message with this queue id, verified if it is bytes; None: there is none.

        QueueError: it is damaged. ValueError: no queue id.
        """
        number = message_number(name)
        path = self._parts.store.path(number)
        if not await self.search(Filter(message=name), limit=1):
            return None
        with self._parts.readable():
            found = await self._parts.searches.run(lambda db: load(db, number, path))
        if isinstance(found, str):
            raise QueueError(f"{name} cannot be shown: {found}")
        return found.path if found.data is None else found.data

    def stats(self) -> dict[State, Tally]:
        """Entries, bytes, oldest, earliest due by state: a few index look-ups, whatever the queue's size."""
        with self._parts.readable():
            return tally.stats(
                self._parts.database.reading, self._parts.writer.totals, self._parts.writer.leases
            )

    def lane_tally(self, lane: str) -> LaneTally:
        with self._parts.readable():
            return tally.lane_tally(self._parts.database.reading, lane, self._parts.writer.leases)

    async def lanes(self, after: str = "", limit: int = 1000) -> list[LaneTally]:
        """Lanes that have entries, by name, beginning after this name."""
        with self._parts.readable():
            found = await self._parts.searches.run(lambda db: tally.lanes(db, after, limit))
        return tally.with_active_lanes(found, after, limit, self._parts.writer.leases)

    async def salvage(self, directory: Path, dry_run: bool = False) -> AsyncIterator[Salvaged]:
        """Bring back what a database that was moved aside still proves, chunk by chunk (salvage.py).

        dry_run: only say what it proves. OSError: there is nothing to read; QueueError: run it again.
        """
        async for part in Salvage(self._parts, directory, self._parts.store.directory, dry_run).run():
            yield part

    def space(self) -> Space:
        """Refreshed at most once a second."""
        return self._parts.room.look()
