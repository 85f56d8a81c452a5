"""A recipient's NOTIFY= and ORCPT= parameters as values (RFC 3461 section 4), and xtext.

The front checks what clients send and keeps it byte for byte; this reads it back. Nothing here raises on what
it does not understand, `xtext_decode` apart: a report is better than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEX = re.compile(r"\+([0-9A-F]{2})")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 section 4: no "+" but before hex, no "="


@dataclass(frozen=True, slots=True)
class DsnOptions:
    """notify: upper-case words, empty without the parameter. orcpt: "type;address" decoded, "" without."""

    notify: frozenset[str] = frozenset()
    orcpt: str = ""


def parse(options: str) -> DsnOptions:
    """ "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob+40example.org" -> DsnOptions."""
    notify: frozenset[str] = frozenset()
    orcpt = ""
    for word in options.split():
        name, _, value = word.partition("=")
        if name.upper() == "NOTIFY":
            notify = frozenset(value.upper().split(","))
        elif name.upper() == "ORCPT":
            orcpt = _orcpt(value)
    return DsnOptions(notify, orcpt)


def _orcpt(value: str) -> str:
    """The address type and the address; a `utf-8` address is not xtext (RFC 6533 section 3)."""
    kind, _, address = value.partition(";")
    if kind.lower() == "utf-8":
        return f"utf-8;{address}"
    try:
        return f"{kind};{xtext_decode(address)}"
    except ValueError:
        return value


def xtext_decode(text: str) -> str:
    """xtext -> ASCII text. ValueError: not xtext, or it stands for octets that are not ASCII."""
    if not _XTEXT.fullmatch(text):
        raise ValueError(f"not xtext: {text!r}")
    decoded = _HEX.sub(lambda match: chr(int(match[1], 16)), text)
    if not decoded.isascii():
        raise ValueError(f"not ASCII behind the xtext: {text!r}")
    return decoded
