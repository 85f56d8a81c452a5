"""Rows and what they hold: packing, unpacking, checksums. Pure functions."""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable, Sequence
from zlib import crc32

from mailqueue.entry import Entry, Recipient
from mailqueue.schema import ENTRIES_BITS

_quote: Callable[[str], str] = json.encoder.encode_basestring
_decode = json.JSONDecoder().decode

ENTRY_COLUMNS = "id, lane, state, due, attempts, crashes, sender, size, recipients, check_"
EntryRow = tuple[int, str, int, int, int, int, str, int, str, int]
MessageRow = tuple[int, bytes, int, int, int, int, bytes | None]


def pack_recipients(recipients: Sequence[Recipient]) -> str:
    """JSON: [[address, options, reply], ...]."""
    packed = [f"[{_quote(r.address)},{_quote(r.options)},{_quote(r.reply)}]" for r in recipients]
    return f"[{','.join(packed)}]"


def unpack_recipients(text: str) -> list[Recipient]:
    return [Recipient(*fields) for fields in _decode(text)]


def entry_check(number: int, lane: str, sender: str, size: int, recipients: str) -> int:
    """Over what says who gets what. UnicodeEncodeError for text that is no text (lone surrogates)."""
    return crc32(f"{number}\n{lane}\n{sender}\n{size}\n{recipients}".encode())


def message_check(number: int, meta: bytes, size: int, crc: int, file: int) -> int:
    return crc32(meta, crc32(b"%d %d %d %d" % (number, size, crc, file)))


def entry_is_sound(row: EntryRow) -> bool:
    """Is it what was stored? What the check does not cover must at least be numbers: one flipped bit makes a
    zero, which has no octets of its own, a NULL."""
    if not (type(row[2]) is type(row[3]) is type(row[4]) is type(row[5]) is int):
        return False
    return entry_check(row[0], row[1], row[6], row[7], row[8]) == row[9]


def is_known(lane: object, state: object, *numbers: object) -> bool:
    """Can these be values of an entry's row? A damaged one may have anything in their place."""
    return type(state) is int and 0 <= state <= 4 and isinstance(lane, str) and are_numbers(*numbers)


def are_numbers(*values: object) -> bool:
    return all(type(value) is int for value in values)


def message_of(entry: int) -> int:
    return entry >> ENTRIES_BITS


def entry_range(message: int) -> tuple[int, int]:
    """The first and the last id that an entry of this message can have."""
    first = message << ENTRIES_BITS
    return first, first + (1 << ENTRIES_BITS) - 1


def accepted_at(message: int) -> float:
    """A message's id is the time of its acceptance in microseconds."""
    return message / 1e6


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def clamp(due: int, now: int, far: int) -> int:
    """A stored time as it may be believed, all in milliseconds. far: nobody waits longer than this."""
    return due if due <= now + far else now


def lease(row: EntryRow) -> Entry:
    """The entry of a row that is being taken (its state is still the one it had at rest)."""
    number, lane, state, due, attempts, crashes, sender, size, recipients, _ = row
    message = number >> ENTRIES_BITS
    return Entry(
        id=number,
        message=message,
        lane=lane,
        fresh=state == 1,
        attempts=attempts,
        accepted=message / 1e6,
        due=due / 1000,
        sender=sender,
        size=size,
        recipients=unpack_recipients(recipients),
        crashes=crashes,
    )
