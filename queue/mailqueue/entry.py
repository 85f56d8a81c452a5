"""The nouns of the queue: what is put in, what is leased, what is asked.

The queue knows no SMTP: addresses, options and replies are opaque text, `meta` is opaque bytes, a lane is an
opaque name. Times are seconds since the epoch (wall clock, float) at this surface and integer milliseconds on
disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mailqueue.content import Content


class State(IntEnum):
    """Where an entry stands. The numbers are on disk."""

    ACTIVE = 0  # leased: an attempt may be under way; after a crash these are the possibly delivered
    INCOMING = 1  # waits for its first attempt
    DEFERRED = 2  # was tried, waits for its due time
    HELD = 3  # an operator (or three crashes) said stop
    QUARANTINED = 4  # its checksum fails: kept, counted, never sent


@dataclass(slots=True)
class Recipient:
    """address and options as given at accept; reply: what was last said about it, shown by searches."""

    address: str
    options: str = ""
    reply: str = ""


@dataclass(slots=True)
class Message:
    """What `submit` takes. lanes: lane name -> its recipients; 1 to 1000 lanes, none of them empty."""

    sender: str
    lanes: Mapping[str, Sequence[Recipient]]
    content: Content | bytes  # bytes: small content made in memory (a bounce); Content: see Queue.content()
    meta: bytes = b""
    context: object = None  # anything; a fresh lease carries it, it is never stored


@dataclass(slots=True)
class Entry:
    """A lease on one (message, lane): handed out by `take` or `on_leased`, given back by `settle`."""

    id: int  # the entry; unique for ever
    message: int
    lane: str
    fresh: bool  # True: never attempted before (was INCOMING)
    attempts: int  # completed attempts that counted
    accepted: float
    due: float  # when it was due
    sender: str
    size: int  # octets of content as stored
    recipients: list[Recipient]
    meta: bytes = b""  # filled in for fresh leases; else by Queue.load()
    content: bytes | None = None  # small fresh content still in memory; else Queue.load()
    crashes: int = 0
    context: object = None  # of a fresh lease: that of its Message

    @property
    def name(self) -> str:
        """The queue id that people see: that of the message, the same for all its lanes."""
        return message_name(self.message)


@dataclass(slots=True)
class Loaded:
    """What `Queue.load` returns: `meta`, and `data` (verified) or `path` (verify `check` while reading)."""

    meta: bytes
    size: int
    check: int  # zlib.crc32 of the whole content
    data: bytes | None = None
    path: Path | None = None


@dataclass(slots=True)
class Filter:
    """Which entries an operator means; every given field must match. Empty: all."""

    message: str = ""  # a queue id
    sender: str = ""  # exact address, "@domain" for all of a domain, "<>" for the null sender
    recipient: str = ""  # exact address or "@domain"; case-insensitive like sender
    lane: str = ""
    states: frozenset[State] = frozenset()
    older_than: float = 0.0  # seconds of age; 0: any
    younger_than: float = 0.0


@dataclass(slots=True)
class Row:
    """One entry as a search shows it."""

    id: int
    message: str  # queue id
    lane: str
    state: State
    due: float
    attempts: int
    crashes: int
    accepted: float
    sender: str
    size: int
    recipients: list[Recipient]


@dataclass(slots=True)
class Tally:
    """Entries and bytes in one state. oldest: its accept time; oldest_due: the earliest; 0 when none."""

    entries: int = 0
    bytes: int = 0
    oldest: float = 0.0
    oldest_due: float = 0.0


@dataclass(slots=True)
class LaneTally:
    """One lane's entries by state, and when the queue will offer it next (0: nothing waits)."""

    lane: str
    states: dict[State, Tally] = field(default_factory=dict)
    next: float = 0.0


Accepted = Callable[[int, Exception | None], None]  # (message id or 0, error or None)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


@lru_cache(4096)  # a message is named several times while it passes
def message_name(number: int) -> str:
    """An integer message id as the short text people see: base 32, 11 characters for today's dates. Hot."""
    name = _PAIRS[number & 1023]
    number >>= 10
    while number:
        name = _PAIRS[number & 1023] + name
        number >>= 10
    return name.lstrip("0") or "0"


def message_number(name: str) -> int:
    """The reverse of message_name. ValueError for anything that is not such a name."""
    if not 1 <= len(name) <= 13:
        raise ValueError(f"not a queue id: {name!r}")
    number = 0
    for character in name.lower():
        digit = _ALPHABET.find(character)
        if digit < 0:
            raise ValueError(f"not a queue id: {name!r}")
        number = number * 32 + digit
    return number
