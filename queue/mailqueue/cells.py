"""Rows out of the pages of a damaged database, and ids out of its indexes.

The format: https://www.sqlite.org/fileformat2.html, sections 1.6 (b-tree pages) and 2.1 (records). Whatever
does not hold together raises Unreadable; what does may still be wrong: checksums decide, elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mailqueue.pages import Pages

INDEX_LEAF, TABLE_LEAF = 10, 13
FLAGS = frozenset({2, 5, INDEX_LEAF, TABLE_LEAF})
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> octets
_MOST_COLUMNS = 20
_ENTRY = re.compile("nt[in]{4}titi")  # no checksum covers the four

Value = int | str | bytes | None


class Unreadable(Exception):
    """It does not hold together."""


@dataclass(frozen=True, slots=True)
class Cell:
    """rowid: 0 in an index. size: octets of the record; local: those of them that stand in the page."""

    rowid: int
    size: int
    local: bytes
    overflow: int  # the page where it goes on, 0: it does not


def flag(page: int, data: bytes) -> int:
    """What kind of b-tree page it is."""
    return data[100 if page == 1 else 0]


def count(page: int, data: bytes) -> int:
    """How many cells a b-tree page has. Unreadable: more than there is room for."""
    begin = 100 if page == 1 else 0
    found = int.from_bytes(data[begin + 3 : begin + 5], "big")
    if found * 2 + begin + 8 > len(data):
        raise Unreadable("too many cells")
    return found


def cell(page: int, data: bytes, place: int) -> Cell:
    """The cell at a place of a leaf."""
    begin = 100 if page == 1 else 0
    is_table = data[begin] == TABLE_LEAF
    at = begin + 8 + 2 * place
    at = int.from_bytes(data[at : at + 2], "big")
    size, at = varint(data, at)
    rowid, at = varint(data, at) if is_table else (0, at)
    if rowid >= 2**63:
        raise Unreadable("a negative row id")
    most = len(data) - 35 if is_table else (len(data) - 12) * 64 // 255 - 23
    if size <= most:
        local, overflow = size, 0
    else:
        least = (len(data) - 12) * 32 // 255 - 23
        local = least + (size - least) % (len(data) - 4)
        local = local if local <= most else least
        overflow = int.from_bytes(data[at + local : at + local + 4], "big")
    if at + local + 4 * bool(overflow) > len(data):
        raise Unreadable("a cell goes beyond its page")
    return Cell(rowid, size, data[at : at + local], overflow)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends). Of nine octets the last gives eight bits."""
    value = 0
    for step in range(9):
        if at >= len(data):
            raise Unreadable("a number is cut")
        octet = data[at]
        at += 1
        if step == 8:
            return value << 8 | octet, at
        value = value << 7 | octet & 127
        if octet < 128:
            break
    return value, at


def shape(found: Cell) -> list[int]:
    """The serial types of a record's columns."""
    end, at = varint(found.local, 0)
    types: list[int] = []
    while at < end:
        if len(types) > _MOST_COLUMNS:
            raise Unreadable("too many columns")
        kind, at = varint(found.local, at)
        types.append(kind)
    if at != end:
        raise Unreadable("the columns go beyond their header")
    return types


def values(pages: Pages, found: Cell) -> list[Value]:
    """The columns of a record; those of a text that is none raise, too."""
    data = _whole(pages, found)
    at, _ = varint(data, 0)
    row: list[Value] = []
    for kind in shape(found):
        value, at = _value(kind, data, at)
        row.append(value)
    if at != len(data):
        raise Unreadable("a record is too long")
    return row


def _whole(pages: Pages, found: Cell) -> bytes:
    if found.size > pages.count * pages.size:
        raise Unreadable("a record is longer than its file")
    parts, left, following = [found.local], found.size - len(found.local), found.overflow
    while left:
        page = pages.read(following)
        if page is None:
            raise Unreadable("a record goes on nowhere")
        part = page[4 : 4 + left]
        parts.append(part)
        left -= len(part)
        following = int.from_bytes(page[:4], "big")
    return b"".join(parts)


def _value(kind: int, data: bytes, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in (8, 9):
        return kind - 8, at
    length = _INTEGERS.get(kind) if kind < 12 else (kind - 12) // 2
    if length is None:
        raise Unreadable(f"no such type: {kind}")
    end = at + length
    if end > len(data):
        raise Unreadable("a column is cut")
    part = data[at:end]
    if kind < 12:
        return int.from_bytes(part, "big", signed=True), end
    if not kind & 1:
        return part, end
    try:
        return part.decode(), end
    except UnicodeDecodeError:
        raise Unreadable("a text is none") from None


Table = Literal["message", "entry", ""]


def table_of(types: list[int]) -> Table:
    """Whose row it is: by the number of its columns and whether they are numbers, texts or octets."""
    text = "".join(_letter(kind) for kind in types)
    if text in ("nbiiiib", "nbiiiin"):
        return "message"
    return "entry" if _ENTRY.fullmatch(text) else ""


def _letter(kind: int) -> str:
    if kind == 0:
        return "n"
    return "i" if kind < 12 else "t" if kind & 1 else "b"


def indexed(pages: Pages, page: int, data: bytes) -> Iterator[int]:
    """The ids of entries that the cells of one of their indexes name: the last column."""
    for place in range(count(page, data)):
        try:
            row = values(pages, cell(page, data, place))
        except Unreadable:
            continue
        last = row[-1] if row else None
        is_index = len(row) in (3, 4) or (len(row) == 2 and isinstance(row[0], int))
        if is_index and isinstance(last, int) and last > 0:
            yield last
