"""What we read in a message's header section: three facts, nothing parsed further, nothing changed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MESSAGE_ID_LIMIT = 255
FIELD_END = re.compile(rb"\r\n(?![ \t])")  # what follows goes on with the field (RFC 5322 2.2.3)


@dataclass(slots=True)
class Facts:
    """hops: number of Received lines; message_id: unfolded, "" without one."""

    hops: int
    message_id: str
    has_date: bool
    ascii: bool


def section_end(block: bytes | bytearray, start: int = 0) -> int:
    """Where the header section that begins the block ends (after its last CRLF), -1 when its end is not in
    sight."""
    if block.startswith(b"\r\n"):
        return 0
    end = block.find(b"\r\n\r\n", start)
    return end + 2 if end >= 0 else -1


def scan(section: bytes) -> Facts:
    """section: header lines in wire form, each ended by CRLF."""
    lines = b"\n" + section.lower()
    at = lines.find(b"\nmessage-id:")
    return Facts(
        lines.count(b"\nreceived:"),
        _value(section, at + len(b"message-id:")) if at >= 0 else "",
        b"\ndate:" in lines,
        section.isascii(),
    )


def _value(section: bytes, start: int) -> str:
    """The field body at start, unfolded, printable and bounded: it goes into logs and searches."""
    end = FIELD_END.search(section, start)
    raw = section[start : end.start() if end else len(section)][: 2 * MESSAGE_ID_LIMIT]
    text = " ".join(raw.decode("utf-8", "replace").split())
    if text.isprintable():
        return text[:MESSAGE_ID_LIMIT]
    return "".join(character if character.isprintable() else "?" for character in text)[:MESSAGE_ID_LIMIT]
