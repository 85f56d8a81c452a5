"""Is this the password? Shared by all listeners, kept over reloads.

A check costs a thread 0.1 s, so what was right a moment ago is remembered: keyed digests of user and
password under a key of this process, bound to the user's line in the file. A removed or changed user is out
with the next reading of the file. A remembered login is not held up by the throttle: it proves the password,
and it answers before anything is counted. Everything else is: see throttle.py.

An unknown user is checked against a line that fits no password and costs as much as the others.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from relay.front.hashing import Busy, Hashing
from relay.front.throttle import Throttle, client_key
from relay.observe.events import Events
from relay.users.listing import Listing, User
from relay.users.password import HASH_OCTETS, SALT_OCTETS, Hash, prepared

REMEMBERED = 10_000  # logins
REMEMBERED_FOR = 300.0  # seconds after its last use


class Verdict(NamedTuple):
    """result: ok, failed, blocked, busy, error; user: with ok; delay: s before a failure is answered."""

    result: str
    user: User | None = None
    delay: float = 0.0


BLOCKED, BUSY, ERROR = Verdict("blocked"), Verdict("busy"), Verdict("error")


class Remembered(NamedTuple):
    line: str  # the hash it was checked against
    until: float


class Authenticator:
    """`learn` the users, then `recall` and, where that says None, `check`. Closed once."""

    def __init__(
        self,
        events: Events,
        hashing: Hashing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds, steady."""
        self.events = events
        self.throttle = Throttle()
        self._hashing = hashing or Hashing()
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._users: Mapping[str, User] | None = None
        self._decoy = _decoy(Listing())
        self._remembered: dict[bytes, Remembered] = {}
        self._flights: dict[tuple[str, bytes], asyncio.Task[Verdict]] = {}

    def learn(self, listing: Listing | None) -> None:
        """From now on these may log in; None: nobody knows who may (454)."""
        self._users = None if listing is None else listing.users
        self._decoy = _decoy(listing or Listing())

    def current(self, user: User) -> User | None:
        """Who logged in as that user, as the file stands now; None when the login holds no longer."""
        now = self._users.get(user.name) if self._users else None
        return now if now is not None and (now is user or now.hash.line == user.hash.line) else None

    def recall(self, name: str, password: str) -> User | None:
        """A login that was right a moment ago, at once."""
        key = self._digest(name, password)
        known = self._remembered.pop(key, None)
        if known is None or not self._users:
            return None
        user, now = self._users.get(name), self._clock()
        if user is None or user.hash.line != known.line or now >= known.until:
            return None
        self._remembered[key] = Remembered(known.line, now + REMEMBERED_FOR)
        return user

    async def check(self, address: str, name: str, password: str) -> Verdict:
        """address: of the client. The same question asked again meanwhile is the same check. It goes on, and
        counts, also when who asked is gone."""
        client = client_key(address)
        flight = (client, self._digest(name, password))
        task = self._flights.get(flight)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._check(client, name, password, flight[1]))
            self._flights[flight] = task
            task.add_done_callback(lambda _: self._flights.pop(flight, None))
        return await asyncio.shield(task)

    async def _check(self, client: str, name: str, password: str, key: bytes) -> Verdict:
        if self._users is None:
            return ERROR
        if self._blocked(client, name):
            return BLOCKED
        user = self._users.get(name)
        checked = user.hash if user is not None else self._decoy
        try:
            right = await self._hashing.run(
                client, partial(checked.matches, password), lambda: not self._blocked(client, name)
            )
        except Busy:
            return BUSY
        except Exception as error:
            self.events.bug("front", error)
            return ERROR
        if right is None:
            return BLOCKED
        now = self._clock()
        user = self.current(user) if right and user is not None else None
        if user is None:
            return Verdict("failed", None, self.throttle.failed(client, name, now))
        self.throttle.succeeded(client, name, now)
        self._remember(key, user, now)
        return Verdict("ok", user)

    def _blocked(self, client: str, name: str) -> bool:
        return self.throttle.blocked(client, name, self._clock())

    def _remember(self, key: bytes, user: User, now: float) -> None:
        self._remembered.pop(key, None)
        self._remembered[key] = Remembered(user.hash.line, now + REMEMBERED_FOR)
        while len(self._remembered) > REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def _digest(self, name: str, password: str) -> bytes:
        return blake2b(prepared(f"{name}\0{password}"), key=self._key, digest_size=16).digest()

    def close(self) -> None:
        for task in self._flights.values():
            task.cancel()
        self._hashing.close()


def _decoy(listing: Listing) -> Hash:
    """What no password fits."""
    return Hash("", listing.cost, secrets.token_bytes(SALT_OCTETS), secrets.token_bytes(HASH_OCTETS))
