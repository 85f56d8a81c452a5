"""How failed logins slow a client down: a leaking bucket per client. A function of (state, now); no clock.

A client is an IPv4 address or an IPv6 /64. Each failure adds one to its level, and the level sinks by LIMIT
in WINDOW seconds. Below LIMIT each failure is answered a little later than the one before; from LIMIT on
AUTH is refused without looking at the password.

Who logged in well from an address before has a bucket of their own there (client, name): the one
service with an old password behind a NAT does not shut out the others. A guesser at that address gains the
tries of that bucket, and learns of the name that it is one; nobody else does.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import NamedTuple

LIMIT = 20  # failures
WINDOW = 600.0  # seconds
FIRST_DELAY, LONGEST_DELAY = 0.5, 5.0  # seconds before the reply to a failure; each twice the one before
REMEMBERED = 10_000  # clients with failures; and as many (client, name) that succeeded
TRUSTED_FOR = 7 * 86_400.0  # seconds after a success that was checked

Key = str | tuple[str, str]


class Level(NamedTuple):
    """How many failures weigh on a client, at a time in seconds of any steady clock."""

    value: float
    at: float


def leaked(level: Level | None, now: float) -> float:
    """The level now."""
    if level is None:
        return 0.0
    return max(0.0, level.value - max(0.0, now - level.at) * LIMIT / WINDOW)


def failed(level: Level | None, now: float) -> Level:
    """After one more failure; it never rises over LIMIT, so that silence always helps."""
    return Level(min(float(LIMIT), leaked(level, now) + 1), now)


def is_blocked(level: Level | None, now: float) -> bool:
    return leaked(level, now) > LIMIT - 1


def delay(level: Level) -> float:
    """Seconds until a failure is answered that has brought the client to this level."""
    doublings = min(16.0, max(0.0, level.value - 1))
    return min(LONGEST_DELAY, FIRST_DELAY * float(2.0**doublings))


def client_key(address: str) -> str:
    """Who counts as one: an IPv4 address, an IPv6 /64 (one customer has that many)."""
    if ":" not in address:
        return address
    try:
        return IPv6Address(address).packed[:8].hex()
    except ValueError:
        return address


class Throttle:
    """The levels, both tables bounded: the oldest goes first."""

    def __init__(self) -> None:
        self._levels: dict[Key, Level] = {}
        self._trusted: dict[tuple[str, str], float] = {}  # (client, name) -> when it succeeded last

    def blocked(self, client: str, name: str, now: float) -> bool:
        """client: a client_key."""
        return is_blocked(self._levels.get(self._key(client, name, now)), now)

    def failed(self, client: str, name: str, now: float) -> float:
        """Counts a failure; seconds until it may be answered."""
        key = self._key(client, name, now)
        level = failed(self._levels.pop(key, None), now)
        self._levels[key] = level
        _shrink(self._levels)
        return delay(level)

    def succeeded(self, client: str, name: str, now: float) -> None:
        pair = (client, name)
        self._trusted.pop(pair, None)
        self._trusted[pair] = now
        _shrink(self._trusted)

    def _key(self, client: str, name: str, now: float) -> Key:
        pair = (client, name)
        since = self._trusted.get(pair)
        return pair if since is not None and now - since < TRUSTED_FOR else client

    def __len__(self) -> int:
        return len(self._levels)


def _shrink(table: dict[Key, Level] | dict[tuple[str, str], float]) -> None:
    """Dictionaries keep their order: the first is the one not touched for longest."""
    while len(table) > REMEMBERED:
        del table[next(iter(table))]  # type: ignore[arg-type]  # its own first key
