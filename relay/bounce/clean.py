"""Foreign text made safe for a header, a report field or a letter. Pure.

What a remote server says and what a client gave as an address is not ours: no control character, line break,
unpaired surrogate or direction mark of it may reach the report, and no line may grow over what SMTP carries.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from email.utils import format_datetime

WORD = 200  # characters of one word before it is broken
VALUE = 2000  # characters of one foreign text that are kept
ADDRESS = 900  # octets of one address that are kept
_LAST = 253_402_300_799.0  # the end of year 9999


def plain(text: str, limit: int = VALUE) -> str:
    """One line of printable text: others become blanks, blanks are collapsed, the end is cut off."""
    visible = text[: 4 * limit]
    if not (visible.isascii() and visible.isprintable()):
        visible = "".join(each if _visible(each) else " " for each in visible)
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def _visible(character: str) -> bool:
    return (character.isascii() and character.isprintable()) or unicodedata.category(character)[0] in "LMNPS"


def escaped(text: str) -> str:
    """ASCII: other characters as \\x{HEX}, the way RFC 6533 section 3 writes them."""
    return text if text.isascii() else "".join(each if each.isascii() else _hex(each) for each in text)


def _hex(character: str) -> str:
    return f"\\x{{{ord(character):X}}}"


def field(name: str, value: str, utf8: bool = False) -> str:
    """ "Name: value", folded at blanks; lines end with LF. Without utf8 it is ASCII."""
    line = plain(value)
    if not utf8:
        line = escaped(line)
    if line and len(name) + 2 + len(line) <= 76:
        return f"{name}: {line}"
    words = [piece for word in line.split(" ") for piece in _pieces(word)]
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > 76 and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _pieces(word: str) -> list[str]:
    return [word[start : start + WORD] for start in range(0, len(word), WORD)]


def address(text: str) -> str:
    """An envelope address without anything that could end a line; cut at ADDRESS octets."""
    if text.isascii() and text.isprintable():
        return text[:ADDRESS].strip()
    kept = "".join(each for each in text if each == " " or _visible(each))
    return kept.encode()[:ADDRESS].decode(errors="ignore").strip()


def typed_address(text: str, utf8: bool = False) -> str:
    """ "rfc822; bob@example.org", or "utf-8; ..." for an address that is not ASCII (RFC 6533 section 3)."""
    safe = address(text)
    if safe.isascii():
        return f"rfc822; {safe}"
    if utf8:
        return f"utf-8; {safe}"
    encoded = "".join(each if "!" <= each <= "~" and each not in "\\+=" else _hex(each) for each in safe)
    return f"utf-8; {encoded[:ADDRESS]}"


def date(seconds: float) -> str:
    """Seconds since the epoch as RFC 5322 writes a date, in UTC; clamped to what a date can say."""
    return format_datetime(datetime.fromtimestamp(min(max(seconds, 0.0), _LAST), UTC))
