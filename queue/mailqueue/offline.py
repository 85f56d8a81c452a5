"""The operators' calls without a running daemon: synchronous, under the lock, with a clean close."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType

from mailqueue.entry import Filter, LaneTally, Row, State, Tally
from mailqueue.errors import SpoolUnusable
from mailqueue.observer import Observer
from mailqueue.options import Options
from mailqueue.salvage import Salvaged
from mailqueue.spool import Queue


class OfflineQueue:
    """A context manager. It opens like any queue: what was in flight at a crash is taken back."""

    def __init__(self, path: Path, options: Options = Options(), observer: Observer | None = None) -> None:  # noqa: B008
        """Raises SpoolLocked when a daemon runs, SpoolFormat, SpoolUnusable; never creates a spool."""
        if not (path / "format").exists():
            raise SpoolUnusable(f"there is no spool at {path}")
        self._runner = asyncio.Runner()
        try:
            self._queue = self._runner.run(Queue.open(path, options, observer))
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> OfflineQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        try:
            self._runner.run(self._queue.close())
        finally:
            self._runner.close()

    def hold(self, f: Filter) -> int:
        return self._runner.run(self._queue.hold(f))

    def release(self, f: Filter) -> int:
        return self._runner.run(self._queue.release(f))

    def retry(self, f: Filter) -> int:
        return self._runner.run(self._queue.retry(f))

    def drop(self, f: Filter) -> int:
        return self._runner.run(self._queue.drop(f))

    def search(self, f: Filter, after: int = 0, limit: int = 1000) -> list[Row]:
        return self._runner.run(self._queue.search(f, after, limit))

    def count(self, f: Filter) -> int:
        return self._runner.run(self._queue.count(f))

    def rows(self, f: Filter) -> Iterator[Row]:
        """All that match, page by page."""
        after = 0
        while page := self.search(f, after):
            yield from page
            after = page[-1].id

    def read_content(self, name: str) -> bytes | Path | None:
        return self._runner.run(self._queue.read_content(name))

    def salvage(self, directory: Path, dry_run: bool = False) -> Iterator[Salvaged]:
        parts = self._queue.salvage(directory, dry_run)
        while (part := self._runner.run(_following(parts))) is not None:
            yield part

    def stats(self) -> dict[State, Tally]:
        return self._queue.stats()

    def lane_tally(self, lane: str) -> LaneTally:
        return self._queue.lane_tally(lane)

    def lanes(self, after: str = "", limit: int = 1000) -> list[LaneTally]:
        return self._runner.run(self._queue.lanes(after, limit))


async def _following(parts: AsyncIterator[Salvaged]) -> Salvaged | None:
    return await anext(parts, None)
