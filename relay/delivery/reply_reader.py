"""Octets from a peer -> SMTP replies (RFC 5321 4.2), without trust: all is bounded, nothing is guessed.

A reply is handed out as (code, text): three digits as an int, and the octets behind them with the lines of a
multi-line reply joined by LF. `clean` turns such octets into text that is safe in logs, metrics and bounces.
"""

from __future__ import annotations

import re

MAX_LINE = 2048  # octets, without the line end; RFC 5321 4.5.3.1.5 allows 512
MAX_LINES = 100
MAX_REPLY = 16 * 1024  # octets of all lines of one reply
MAX_TEXT = 1000  # characters that are kept of a reply

# C0, DEL, C1, line and paragraph separators, marks that turn the direction of text, lone surrogates
_UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NotAReply(Exception):
    """What the peer sent is not an SMTP reply, or is over a bound; str() says which, with the start of it."""


class ReplyReader:
    """Fed with what arrives; next() gives one complete reply at a time."""

    __slots__ = ("_at", "_buffer", "_code", "_lines", "_octets")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # where the unread part of the buffer begins
        self._lines: list[bytes] = []  # of a multi-line reply that is not complete yet
        self._code = b""
        self._octets = 0

    @property
    def leftover(self) -> bool:
        """True when octets are left that next() has not handed out: more was said, or half of something."""
        return self._at < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> None:
        """Take what arrived; of any size."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def next(self) -> tuple[int, bytes] | None:
        """The next reply, or None until more arrives. NotAReply: the connection is of no use any more."""
        while True:
            end = self._buffer.find(b"\n", self._at)
            if end < 0:
                if len(self._buffer) - self._at > MAX_LINE:
                    raise NotAReply(f"a reply line is over {MAX_LINE} octets")
                return None
            line = self._buffer[self._at : end].removesuffix(b"\r")
            self._at = end + 1
            if line[3:4] == b" " and not self._lines and len(line) <= MAX_LINE and line[:3].isdigit():
                return int(line[:3]), line[4:]
            reply = self._add(line)
            if reply is not None:
                return reply

    def _add(self, line: bytes) -> tuple[int, bytes] | None:
        """One line that needs a closer look. The reply when this was its last line."""
        code, mark = line[:3], line[3:4]
        if len(line) > MAX_LINE:
            raise NotAReply(f"a reply line is over {MAX_LINE} octets")
        if not (len(code) == 3 and code.isdigit() and mark in (b"", b" ", b"-")):
            raise NotAReply(f"not a reply: {clean(line)[:100]}")
        if self._lines and code != self._code:
            raise NotAReply(f"a reply with two codes: {clean(self._code)} and {clean(line)[:100]}")
        self._code = code
        self._lines.append(line[4:])
        self._octets += len(line)
        if len(self._lines) > MAX_LINES or self._octets > MAX_REPLY:
            raise NotAReply(f"a reply is over {MAX_LINES} lines or {MAX_REPLY} octets")
        if mark == b"-":
            return None
        text = b"\n".join(self._lines)
        self._lines, self._octets = [], 0
        return int(code), text


def clean(text: bytes) -> str:
    """A reply's octets as text: UTF-8 where it is, no control characters, LF between lines, MAX_TEXT long."""
    decoded = text.decode("utf-8", "replace")
    if not (decoded.isascii() and decoded.isprintable()):
        decoded = _UNSAFE.sub("", decoded.replace("\t", " "))
    return decoded[:MAX_TEXT].strip()
