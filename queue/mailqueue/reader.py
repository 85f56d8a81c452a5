"""A thread with a read-only connection, for reads that may wait for the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mailqueue.schema import connect_reader

T = TypeVar("T")


class Reader:
    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._db: sqlite3.Connection | None = None

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """function must fetch all it reads: an open statement would pin the log."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, function)

    def _run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            self._db = connect_reader(self._path)
        return function(self._db)

    async def close(self) -> None:
        """Waits for what is being read."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
