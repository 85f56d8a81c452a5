"""How many sessions there are, in all and by client address, over all listeners; who is turned away, and who
has to give way.

Where every place is taken, a newcomer gets the place of a session that does nothing; one whose address handed
mail in lately also that of a stranger. Few sessions are looked at for that, each in its turn, so the cost
does not grow with their number.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")

FILES_KEPT = 64
ASKED = 8  # sessions, of which one has its file looked at: to ask for it costs more than all else here
CROWDED = 0.9  # of the places are taken: sessions that do nothing have less time
LOOKS = 16  # sessions that are looked at for one newcomer
LEAVING = 100  # sessions that were told to go and have not gone yet, at most
KNOWN = 10_000  # addresses that handed mail in lately


def _nobody(session: object, at_once: bool) -> bool:
    return False


class Admission(Generic[S]):
    """Counts sessions. Bounded by `sessions` and LEAVING: only those admitted are remembered."""

    def __init__(
        self,
        sessions: int,
        sessions_per_client: int,
        files: int | None = None,
        give_way: Callable[[S, bool], bool] = _nobody,
    ) -> None:
        """files: the process's limit of open files (default: as it is now); some are kept for the spool and
        for delivery, so that accepting can never starve them. give_way: ends a session that should leave for
        another (True: and only if no message is under way), and says whether it did."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if files is None else files
        self.highest_file = limit - min(FILES_KEPT, limit // 4)
        self.sessions = sessions
        self.sessions_per_client = sessions_per_client
        self.closing = False
        self._unasked = ASKED  # sessions since one had its file looked at
        self._give_way = give_way
        self._waiters: list[asyncio.Future[None]] = []
        self._open: OrderedDict[S, str] = OrderedDict()  # who was looked at last stands last
        self._leaving: set[S] = set()  # of these
        self._clients: dict[str, int] = {}
        self._known: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def crowded(self) -> bool:
        return self._staying >= CROWDED * self.sessions

    @property
    def _staying(self) -> int:
        return len(self._open) - len(self._leaving)

    def asks_for_file(self) -> bool:
        """Should `admit` be told the next session's file? Until there are enough of them, each one's."""
        self._unasked += 1
        return self._unasked >= ASKED

    def admit(self, session: S, address: str, file: int = 0) -> str:
        """ "" and the session is counted, or the reason of events.session_refused. address: "" when it is not
        known yet, see `identify`. file: its descriptor, 0 unless asked for; the system hands out the lowest
        free one, so a high one means that few are left."""
        if self.closing:
            return "closing"
        if file >= self.highest_file:
            return "files"
        if file:
            self._unasked = 0
        mine = self._clients.get(address, 0)
        if address and mine >= self.sessions_per_client:
            return "sessions_per_client"
        if self._staying >= self.sessions and not self._make_room(address):
            return "sessions"
        if address:
            self._clients[address] = self._clients.get(address, 0) + 1
        self._open[session] = address
        return ""

    def _make_room(self, address: str) -> bool:
        """For one more: somebody else leaves. False: nobody does."""
        if len(self._leaving) >= LEAVING:
            return False
        known = address in self._known
        for _ in range(min(LOOKS, len(self._open))):
            session, theirs = next(iter(self._open.items()))
            self._open.move_to_end(session)
            at_once = known and theirs not in self._known
            if session not in self._leaving and self._give_way(session, at_once):
                if session in self._open:
                    self._leaving.add(session)
                return True
        return False

    def vouch(self, address: str) -> None:
        """A message of this client was accepted."""
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def identify(self, session: S, address: str) -> str:
        """The client of a session that was admitted without one: as `admit`, and released when refused."""
        self.release(session)
        return self.admit(session, address)

    def release(self, session: S) -> bool:
        """False: the session was turned away, or was released before."""
        address = self._open.pop(session, None)
        if address is None:
            return False
        self._leaving.discard(session)
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
