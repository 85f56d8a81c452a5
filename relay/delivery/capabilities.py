"""What a peer said it can do, read once from its EHLO reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """size: the largest message in octets (RFC 1870); 0: SIZE offered without a limit; None: not offered."""

    pipelining: bool = False
    eightbit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    size: int | None = None

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> Capabilities:
        """extensions: EHLO keyword in lower case -> its parameters. Empty after HELO. Never raises."""
        return cls(
            pipelining="pipelining" in extensions,
            eightbit="8bitmime" in extensions,
            smtputf8="smtputf8" in extensions,
            dsn="dsn" in extensions,
            size=_size(extensions["size"]) if "size" in extensions else None,
        )


def _size(parameters: str) -> int:
    first = parameters.split(" ", 1)[0]
    return int(first) if first.isascii() and first.isdigit() and len(first) <= 18 else 0
