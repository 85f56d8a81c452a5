"""The address in the From header, for the rules of `rewrite:` that ask for it (`header: true`). Pure.

Only the octets of an address that a rule fits are replaced; names, comments, folding, other addresses and
other fields stay as they are, nothing is written anew. RFC 5322 section 3.4 says what a mailbox is. An
address without a domain is completed by `origin` to be compared, where it is the only one or in angle
brackets (in a list it may be half of "Doe, John").

Left alone: groups, source routes, addresses with comments or space inside, what cannot be read, and lines
that would become too long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from relay.front.header import FIELD_END
from relay.front.path import PATH_LIMIT

LINE_LIMIT = 998  # octets without CRLF (RFC 5322 2.1.1)

_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")  # space before the colon: RFC 5322 4.5
_POSTMARK = b"From "  # how a mailbox file begins; some clients send that line along
_TOKEN = re.compile(
    rb"""(?P<space>(?:[ \t]|\r\n[ \t])+)
    |(?P<comment>\()
    |(?P<quoted>"(?:[^"\\\r\n]|\\[^\r\n]|\r\n[ \t])*")
    |(?P<literal>\[[^\[\]\\\r\n]*\])
    |(?P<word>[^\x00-\x20()<>\[\]:;@\\,"\x7f]+)
    |(?P<at>@)|(?P<comma>,)|(?P<open><)|(?P<close>>)""",
    re.VERBOSE,
)
_IN_COMMENT = re.compile(rb"[^()\\\r\n]+|\\[^\r\n]|\r\n[ \t]|([()])")
_LOCAL = ("word",)
_ADDRESSES = {(local, "at", domain) for local in ("word", "quoted") for domain in ("word", "literal")}

Token = tuple[str, int, int]  # kind, start, end
Span = tuple[int, int, bytes]  # start, end, what stands there from now on


class _Unreadable(Exception):
    """Not a list of mailboxes as far as it is understood here."""


def rewrite_from(section: bytes, rewritten: Callable[[str], str], origin: str) -> bytes:
    """section: a whole header section in wire form; rewritten: an address -> the one in its place, or
    itself."""
    parts: list[bytes] = []
    done = 0
    for start, body, end in _from_fields(section):
        spans = _spans(section, body, end, rewritten, origin)
        field = _replaced(section, start, end, spans)
        if spans and max(map(len, field.split(b"\r\n"))) <= LINE_LIMIT:
            parts += (section[done:start], field)
            done = end
    return b"".join((*parts, section[done:])) if parts else section


def _from_fields(section: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each From field begins, its body begins, and it ends. A line that is no field ends the header."""
    at = 0
    while at < len(section):
        found = FIELD_END.search(section, at)
        end = found.start() if found else len(section)
        name = _NAME.match(section, at, end)
        if name is None:
            if at or not section.startswith(_POSTMARK):
                return
        elif name[1].lower() == b"from":
            yield at, name.end(), end
        at = end + 2


def _replaced(section: bytes, start: int, end: int, spans: list[Span]) -> bytes:
    parts: list[bytes] = []
    for first, last, address in spans:
        parts += (section[start:first], address)
        start = last
    return b"".join((*parts, section[start:end]))


def _spans(section: bytes, start: int, end: int, rewritten: Callable[[str], str], origin: str) -> list[Span]:
    """What changes in the body of a field."""
    try:
        mailboxes = _mailboxes(section, start, end)
    except _Unreadable:
        return []
    spans = []
    for tokens in mailboxes:
        address = _address(tokens)
        if not address or (len(tokens) == 1 and len(mailboxes) > 1):
            continue
        first, last = address[0][1], address[-1][2]
        old = _completed(section[first:last], len(address) > 1, origin)
        new = rewritten(old) if old else ""
        if new != old:
            spans.append((first, last, new.encode()))
    return spans


def _completed(octets: bytes, has_domain: bool, origin: str) -> str:
    """The address as the envelope would have it, "" for one that no envelope could hold."""
    if len(octets) > PATH_LIMIT:
        return ""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return ""
    return text if has_domain else f"{text}@{origin}"


def _mailboxes(section: bytes, start: int, end: int) -> list[list[Token]]:
    """The field's tokens without comments and space, divided by its commas."""
    found: list[list[Token]] = [[]]
    for token in _tokens(section, start, end):
        if token[0] == "comma":
            found.append([])
        else:
            found[-1].append(token)
    return found


def _tokens(section: bytes, at: int, end: int) -> Iterator[Token]:
    while at < end:
        match = _TOKEN.match(section, at, end)
        if match is None:  # a colon or semicolon is of a group or a source route; or nothing that is known
            raise _Unreadable
        kind, start = str(match.lastgroup), at
        at = _comment_end(section, at, end) if kind == "comment" else match.end()
        if kind not in ("comment", "space"):
            yield kind, start, at


def _comment_end(section: bytes, at: int, end: int) -> int:
    """Comments nest (RFC 5322 3.2.2)."""
    depth = 0
    while match := _IN_COMMENT.match(section, at, end):
        at = match.end()
        if match[1]:
            depth += 1 if match[1] == b"(" else -1
            if depth == 0:
                return at
    raise _Unreadable


def _address(tokens: list[Token]) -> list[Token]:
    """The tokens of a mailbox's address; none when it has no address in one piece."""
    kinds = [kind for kind, _, _ in tokens]
    if "open" in kinds or "close" in kinds:
        if kinds[-1] != "close" or kinds.count("open") != 1 or kinds.count("close") != 1:
            return []
        tokens = tokens[kinds.index("open") + 1 : -1]
        kinds = kinds[kinds.index("open") + 1 : -1]
    joined = all(one[2] == other[1] for one, other in pairwise(tokens))
    return tokens if joined and (tuple(kinds) in _ADDRESSES or tuple(kinds) == _LOCAL) else []
