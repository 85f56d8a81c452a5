"""Text from elsewhere made safe to print: on a terminal, in a log line."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Control characters, line ends, lone surrogates and invisible characters as \x1b, \n, \udc80."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def plural(count: int, noun: str) -> str:
    """ "1 message", "3 messages"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
