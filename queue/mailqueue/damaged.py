"""What the rows of a damaged database still prove.

Every page is looked at once, for the places of rows; then the messages are put together one by one, so memory
is about 100 octets a row. A checksum decides on each row, and on each content. What is only half there is
Lost: named as far as it can be read, and why.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import cast
from zlib import crc32

from mailqueue import cells
from mailqueue.cells import Unreadable, Value
from mailqueue.durable import open_regular
from mailqueue.entry import message_name
from mailqueue.loading import judge
from mailqueue.pages import Kind, Pages
from mailqueue.rows import EntryRow, MessageRow, entry_is_sound, message_of, unpack_recipients

ONLY = "messages"  # a file beside a log: the ids of those that only the log has
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Proven:
    """A message and those of its entries that are what was stored. doubtful: entries whose page was perhaps
    given up, so that they may be long since delivered."""

    message: MessageRow
    entries: list[EntryRow]
    doubtful: frozenset[int]


@dataclass(frozen=True, slots=True)
class Lost:
    """What cannot be brought back. Everything but name and reason is as it reads, and may be wrong."""

    name: str  # queue id
    reason: str
    sender: str = ""
    recipients: tuple[str, ...] = ()
    entry: int = 0  # its id, 0: not known


class _Spots:
    """Where the rows of a table are: page and place, by id, several where there are several."""

    def __init__(self) -> None:
        self.ids = array("q")
        self._spots = array("q")

    def add(self, number: int, page: int, place: int, doubtful: bool) -> None:
        self.ids.append(number)
        self._spots.append(page << 17 | place << 1 | doubtful)

    def sorted(self) -> Iterator[tuple[int, int, int, bool]]:
        """(id, page, place, doubtful)"""
        ids, spots = self.ids, self._spots
        for at in sorted(range(len(ids)), key=ids.__getitem__):
            yield ids[at], spots[at] >> 17, spots[at] >> 1 & 0xFFFF, bool(spots[at] & 1)


@dataclass(slots=True)
class _Group:
    """All that was found of one message."""

    messages: list[list[Value]] = field(default_factory=list)
    entries: list[tuple[list[Value], bool]] = field(default_factory=list)
    broken: bool = False  # a row of it does not hold together
    named: set[int] = field(default_factory=set)  # its entries, as the indexes say


class Damaged:
    """One damaged database. content: where its content files are.

    unreadable: pages that should hold rows and cannot be read, or not wholly. in_doubt: the log has a hole,
    so what was at rest may have been sent since.
    """

    def __init__(self, pages: Pages, content: Path, only: set[int] | None = None) -> None:
        """only: these messages, and no others."""
        self._pages = pages
        self._only = only
        self._content = content
        self._messages, self._entries = _Spots(), _Spots()
        self._named = array("q")
        self.unreadable = 0
        self.in_doubt = pages.log.broken

    def scan(self) -> None:
        """Find the rows. To be called first."""
        self.unreadable = self._pages.cut
        for page in range(1, self._pages.count + 1):
            kind = self._pages.kind(page)
            if kind in (Kind.FREE, Kind.OVERFLOW, Kind.OVERFLOW_FIRST):
                continue
            data = self._pages.read(page)
            if data is None or cells.flag(page, data) not in cells.FLAGS:
                self.unreadable += kind in (Kind.TREE, Kind.ROOT) and self._pages.has_database
            else:
                # A log alone has the pointers only where they changed.
                self._scan_page(page, data, kind is Kind.UNKNOWN and self._pages.has_database)

    def _scan_page(self, page: int, data: bytes, doubtful: bool) -> None:
        found = cells.flag(page, data)
        try:
            if found == cells.INDEX_LEAF and not doubtful:
                self._named.extend(cells.indexed(self._pages, page, data))
            if found != cells.TABLE_LEAF:
                return
            places = cells.count(page, data)
        except Unreadable:
            self.unreadable += 1
            return
        whole = True
        for place in range(places):
            try:
                cell = cells.cell(page, data, place)
                table = cells.table_of(cells.shape(cell))
            except Unreadable:
                whole = False
                continue
            if table:
                spots = self._messages if table == "message" else self._entries
                spots.add(cell.rowid, page, place, doubtful or self._pages.log.headless)
        self.unreadable += not whole

    def numbers(self) -> list[int]:
        """The ids of all messages that a row was found of."""
        return sorted({*self._messages.ids, *map(message_of, self._entries.ids)})

    def messages(self) -> Iterator[Proven | Lost]:
        """In the order of their ids."""
        for number, group in self._groups():
            yield from self._judge(number, group)

    def _groups(self) -> Iterator[tuple[int, _Group]]:
        """Three sorted walks side by side."""
        walks = (
            ((spot[0], 0, spot) for spot in self._messages.sorted()),
            ((message_of(spot[0]), 1, spot) for spot in self._entries.sorted()),
            ((message_of(number), 2, (number, 0, 0, False)) for number in sorted(set(self._named))),
        )
        present, group = -1, _Group()
        for message, kind, (number, page, place, doubtful) in merge(*walks, key=lambda item: item[:2]):
            if self._only is not None and message not in self._only:
                continue
            if message != present:
                if present >= 0:
                    yield present, group
                present, group = message, _Group()
            if kind == 2:
                group.named.add(number)
            else:
                self._add(group, kind, page, place, doubtful)
        if present >= 0:
            yield present, group

    def _add(self, group: _Group, kind: int, page: int, place: int, doubtful: bool) -> None:
        data = self._pages.read(page) or b""
        cell = cells.cell(page, data, place)
        try:
            row = cells.values(self._pages, cell)
        except Unreadable:
            group.broken = True
            return
        row[0] = cell.rowid
        if kind == 0:
            group.messages.append(row)
        else:
            group.entries.append((row, doubtful))

    # --- one message

    def _judge(self, number: int, group: _Group) -> Iterator[Proven | Lost]:
        name = message_name(number)
        sound: dict[int, tuple[EntryRow, bool]] = {}
        wrong: dict[int, EntryRow] = {}
        for values, doubtful in group.entries:
            row = _entry_row(values)
            if entry_is_sound(row) and _recipients(row):
                _keep_latest(sound, row, doubtful)
            else:
                wrong[row[0]] = row
        message, reason = self._message(number, group)
        if message is not None and sound:
            doubted = frozenset(entry for entry, (_, doubtful) in sound.items() if doubtful)
            yield Proven(message, [row for row, _ in sound.values()], doubted)
        elif message is None:
            wrong |= {entry: row for entry, (row, _) in sound.items()}
        for entry, row in wrong.items():
            if message is None or entry not in sound:
                yield _lost(name, reason or "the checksum of an entry is wrong", row)
        missing = [entry for entry in group.named if entry not in sound and entry not in wrong]
        if missing or not (sound or wrong):
            yield Lost(name, reason or "an entry cannot be read: nothing says to whom it was to go")

    def _message(self, number: int, group: _Group) -> tuple[MessageRow | None, str]:
        """The row, or why there is none that can be trusted."""
        reason = "its row cannot be read" if group.broken or not group.messages else ""
        for values in group.messages:
            _, meta, size, crc, file, check, content = values
            found = judge(number, (meta, size, crc, file, check, content))
            if not isinstance(found, str) and found.data is None:
                found = self._file(number, found.size, found.check) or found
            if not isinstance(found, str):
                return cast(MessageRow, tuple(values)), ""
            reason = found
        return None, reason

    def _file(self, number: int, size: int, check: int) -> str:
        """What is wrong with a content file; "" nothing."""
        try:
            descriptor = open_regular(self._content / message_name(number))
        except FileNotFoundError:
            return "its content file is missing"
        except OSError as error:
            return f"its content file cannot be read: {error.strerror}"
        try:
            found = length = 0
            while block := os.read(descriptor, _BLOCK):
                found, length = crc32(block, found), length + len(block)
        except OSError as error:
            return f"its content file cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)
        return "" if (length, found) == (size, check) else "the checksum of its content file is wrong"


def _entry_row(values: list[Value]) -> EntryRow:
    """What no checksum covers becomes a number: a state that is none, else 0."""
    values[2] = -1 if values[2] is None else values[2]
    values[3:6] = [value or 0 for value in values[3:6]]
    return cast(EntryRow, tuple(values))


def _keep_latest(sound: dict[int, tuple[EntryRow, bool]], row: EntryRow, doubtful: bool) -> None:
    """Of two versions the later one: it was tried more often, or fewer are left. A sure one goes first."""
    other = sound.get(row[0])
    if other is None or _version(row, doubtful) > _version(*other):
        sound[row[0]] = row, doubtful


def _version(row: EntryRow, doubtful: bool) -> tuple[bool, int, int, int]:
    return not doubtful, row[4], row[5], -len(row[8])


def _recipients(row: EntryRow) -> tuple[str, ...]:
    """The addresses, as far as they can be read."""
    try:
        return tuple(recipient.address for recipient in unpack_recipients(row[8]))
    except (ValueError, TypeError):
        return ()


def _lost(name: str, reason: str, row: EntryRow) -> Lost:
    return Lost(name, reason, row[6], _recipients(row), row[0])
