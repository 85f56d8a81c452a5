"""What a report takes from the original message: facts for its text, and the part that is returned. Pure."""

from __future__ import annotations

import email.errors
import re
from dataclasses import dataclass
from email.header import decode_header, make_header

from relay import wire
from relay.bounce.policy import HEADERS_CAP, RETURN_CAP

MAX_LINE = 998  # octets without CRLF, RFC 5321 section 4.5.3.1.6
MAX_VALUE = 2000  # octets of a value that are decoded: the time that takes grows with their square
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,500}>")


@dataclass(frozen=True, slots=True)
class Original:
    """subject, message_id: decoded, "" when there is none. headers: CRLF lines, within HEADERS_CAP.

    content: the whole message with CRLF lines when it can be returned as it is, else None.
    """

    subject: str
    message_id: str
    headers: bytes
    content: bytes | None


def read(content: bytes, complete: bool, full: bool, cap: int = RETURN_CAP) -> Original:
    """content: in wire form, all of it when `complete`, else a first part; full: all was asked for."""
    plain = wire.unstuff(content)
    headers = _headers(plain)
    fields = _fields(headers)
    message_id = _MESSAGE_ID.search(fields.get(b"message-id", b"").decode("ascii", "replace"))
    usable = complete and full and len(plain) <= cap and fits(plain)
    return Original(
        _decoded(fields.get(b"subject", b"")),
        message_id[0] if message_id else "",
        headers,
        plain if usable else None,
    )


def fits(plain: bytes) -> bool:
    """True for what SMTP carries without an encoding; message/rfc822 takes none (RFC 2046 section 5.2.1)."""
    return b"\0" not in plain and all(len(line) <= MAX_LINE for line in plain.split(b"\r\n"))


def _headers(plain: bytes) -> bytes:
    """The lines before the first empty one, or before what is no header field; cut before HEADERS_CAP."""
    end = 0
    while end < min(len(plain), HEADERS_CAP):
        stop = plain.find(b"\r\n", end)
        line = plain[end : stop if stop >= 0 else len(plain)]
        continued = end > 0 and line[:1] in (b" ", b"\t") and line.strip()
        if stop < 0 or stop + 2 > HEADERS_CAP or not (continued or _FIELD.match(line)):
            break
        end = stop + 2
    return plain[:end]


def _fields(headers: bytes) -> dict[bytes, bytes]:
    """Unfolded fields by lower-case name; the first of each name."""
    found: dict[bytes, bytes] = {}
    for line in re.sub(rb"\r\n(?=[ \t])", b"", headers).split(b"\r\n"):
        name, _, value = line.partition(b":")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def _decoded(value: bytes) -> str:
    """A header value with its encoded words (RFC 2047) read; as it stands when they are wrong. The rest of a
    very long one is left out."""
    text = value[:MAX_VALUE].decode("utf-8", "replace")
    try:
        return str(make_header(decode_header(text)))
    except (email.errors.MessageError, LookupError, ValueError):
        return text
