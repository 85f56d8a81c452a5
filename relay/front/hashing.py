"""Password checks off the event loop: few threads, and every client in its turn.

One client can fill its own share of the queue and no more; the first check of each client is taken even when
others have filled theirs, so that a guesser delays an honest client by one check, not by its whole list.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

WAITING_LIMIT = 256  # checks that wait in all; beyond it only a client's first
CLIENTS_LIMIT = 1024  # checks that wait, whoever's they are
CLIENT_LIMIT = 32  # of one client
THREADS = 1 if (os.cpu_count() or 1) < 4 else 2


class Busy(Exception):
    """Too many checks wait."""


class Hashing:
    """run() for each check, close() once. On the loop's thread."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, "login")
        self._free = threads
        self._count = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(
        self, client: str, work: Callable[[], bool], wanted: Callable[[], bool] = lambda: True
    ) -> bool | None:
        """What work() returns in a thread; None when it was no longer wanted once its turn came. Busy."""
        if not self._free or self._waiting:
            await self._turn(client)
        else:
            self._free -= 1
        try:
            if not wanted():
                return None
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._free += 1
            self._next()

    async def _turn(self, client: str) -> None:
        mine = self._waiting.get(client, ())
        if len(mine) >= CLIENT_LIMIT or self._count >= (WAITING_LIMIT if mine else CLIENTS_LIMIT):
            raise Busy
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._count += 1
        await turn

    def _next(self) -> None:
        """The client that waits longest for its turn gets one and goes to the end."""
        while self._free and self._waiting:
            client = next(iter(self._waiting))
            mine = self._waiting.pop(client)
            turn = mine.popleft()
            self._count -= 1
            if mine:
                self._waiting[client] = mine
            if not turn.done():
                self._free -= 1
                turn.set_result(None)

    def close(self) -> None:
        """What waits is given up; a check under way ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
