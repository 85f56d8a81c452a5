"""How many sessions there are, in all and by client address, over all listeners; and who is turned away."""

from __future__ import annotations

import asyncio
import resource
from typing import Generic, TypeVar

S = TypeVar("S")

FILES_KEPT = 64


class Admission(Generic[S]):
    """Counts sessions. Bounded by `sessions`: only those admitted are remembered."""

    def __init__(self, sessions: int, sessions_per_client: int, files: int | None = None) -> None:
        """files: the process's limit of open files (default: as it is now); some are kept for the spool and
        for delivery, so that accepting can never starve them."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if files is None else files
        self.highest_file = limit - min(FILES_KEPT, limit // 4)
        self.sessions = sessions
        self.sessions_per_client = sessions_per_client
        self.closing = False
        self._waiters: list[asyncio.Future[None]] = []
        self._open: dict[S, str] = {}
        self._clients: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, session: S, address: str, file: int = 0) -> str:
        """ "" and the session is counted, or the reason of events.session_refused. address: "" when it is not
        known yet, see `identify`. file: its descriptor; the system hands out the lowest free one, so a high
        one means that few are left."""
        if self.closing:
            return "closing"
        if file >= self.highest_file:
            return "files"
        if len(self._open) >= self.sessions:
            return "sessions"
        if address:
            mine = self._clients.get(address, 0)
            if mine >= self.sessions_per_client:
                return "sessions_per_client"
            self._clients[address] = mine + 1
        self._open[session] = address
        return ""

    def identify(self, session: S, address: str) -> str:
        """The client of a session that was admitted without one: as `admit`, and released when refused."""
        self.release(session)
        return self.admit(session, address)

    def release(self, session: S) -> bool:
        """False: the session was turned away, or was released before."""
        address = self._open.pop(session, None)
        if address is None:
            return False
        if address:
            self._leave(address)
        if not self._open:
            self._wake()
        return True

    def _leave(self, address: str) -> None:
        left = self._clients[address] - 1
        if left:
            self._clients[address] = left
        else:
            del self._clients[address]

    def all(self) -> list[S]:
        return list(self._open)

    async def emptied(self) -> None:
        """Returns when no session is open."""
        if self._open:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
