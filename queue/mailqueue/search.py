"""Searches over the entries, for lists and for operators.

A search runs in a thread, on a connection that only reads. It looks at a bounded number of rows in each of
its read transactions, so that it never keeps the log from being folded in, however little it finds; and at a
bounded number before it gives way to other searches.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any

from mailqueue.entry import Filter, Recipient, Row, State, message_name, message_number
from mailqueue.rows import accepted_at, entry_range, message_of, unpack_recipients
from mailqueue.schema import ENTRIES_BITS

_BRIEF = "id, sender, recipients"
_COLUMNS = f"{_BRIEF}, lane, state, due, attempts, crashes, size"
_STEP = 2000  # rows looked at in one read transaction
_STEPS = 25  # read transactions in a row
END = 2**63 - 1
_STATES = frozenset(State)
_NOT_ASCII = re.compile("[^\x00-\x7f]+")


class _Source:
    """One way to walk the entries by id: an index (or none) and the condition it serves."""

    def __init__(self, index: str, condition: str, params: tuple[object, ...]) -> None:
        self._from = (
            f"FROM entry {'INDEXED BY ' + index if index else ''} WHERE {condition} AND id>? AND id<=?"
        )
        self._params = params

    def bound(self, db: sqlite3.Connection, after: int, last: int) -> int:
        """The id up to which there are _STEP rows, or `last`."""
        query = f"SELECT id {self._from} ORDER BY id LIMIT 1 OFFSET {_STEP - 1}"
        row = db.execute(query, (*self._params, after, last)).fetchone()
        return row[0] if row else last

    def rows(
        self,
        db: sqlite3.Connection,
        columns: str,
        span: tuple[int, int],
        also: tuple[str, tuple[object, ...]],
        limit: int,
    ) -> list[tuple[Any, ...]]:
        """The first `limit` with ids over the first of `span` and up to the second. also: what SQL is to sort
        out, with its parameters."""
        query = f"SELECT {columns} {self._from}{also[0]} ORDER BY id LIMIT ?"
        return db.execute(query, (*self._params, *span, *also[1], limit)).fetchall()


class Search:
    """A Filter made ready. now: wall clock, seconds. ValueError: its message is no queue id.

    What it finds comes with an id: everything up to there has been looked at.
    """

    def __init__(self, f: Filter, now: float) -> None:
        self._filter = f
        self._sources = list(_sources(f))
        self._also = _conditions(f)
        self._first, self._last = 0, END
        self._bound = 0  # from the last step's begin to here are no more than _STEP rows of each source
        if f.message:
            self._first, self._last = entry_range(message_number(f.message))
            self._first -= 1
        if f.older_than:
            self._last = min(self._last, int((now - f.older_than) * 1e6) << ENTRIES_BITS)
        if f.younger_than:
            self._first = max(self._first, int((now - f.younger_than) * 1e6) << ENTRIES_BITS)

    def rows(self, db: sqlite3.Connection, after: int, limit: int, last: int = END) -> tuple[list[Row], int]:
        """Some that match, with ids over `after` and up to `last`, by id: about `limit`, or as many as are in
        the rows of _STEPS read transactions."""
        found, reached = self._walk(db, _COLUMNS, after, limit, last)
        return [make_row(row) for row in found], reached

    def numbers(
        self, db: sqlite3.Connection, after: int, limit: int, last: int = END
    ) -> tuple[list[int], int]:
        """The same, their ids alone."""
        columns = _BRIEF if self._filter.sender or self._filter.recipient else "id"
        found, reached = self._walk(db, columns, after, limit, last)
        return [row[0] for row in found], reached

    def _walk(
        self, db: sqlite3.Connection, columns: str, after: int, limit: int, last: int
    ) -> tuple[list[tuple[Any, ...]], int]:
        end = min(last, self._last)
        after = max(after, self._first)
        found: list[tuple[Any, ...]] = []
        for _ in range(_STEPS):
            if len(found) >= limit or after >= end:
                break
            rows, after = self._step(db, columns, after, limit - len(found), end)
            found += rows
        return found, last if after >= end else after

    def _step(
        self, db: sqlite3.Connection, columns: str, after: int, limit: int, end: int
    ) -> tuple[list[tuple[Any, ...]], int]:
        if not after < self._bound <= end:
            self._bound = min(source.bound(db, after, end) for source in self._sources)
        reached = self._bound
        rows = []
        for source in self._sources:
            some = source.rows(db, columns, (after, reached), self._also, limit)
            if len(some) == limit:  # there may be more behind the last of them
                reached = some[-1][0]
            rows += some
        chosen = [row for row in rows if row[0] <= reached and matches(self._filter, row)]
        return sorted(chosen, key=lambda row: row[0]), reached


def make_row(columns: tuple[Any, ...]) -> Row:
    number, sender, packed, lane, state, due, attempts, crashes, size = columns
    message = message_of(number)
    return Row(
        id=number,
        message=message_name(message),
        lane=str(lane),
        state=State(state) if state in _STATES else State.QUARANTINED,
        due=_number(due) / 1000,
        attempts=_number(attempts),
        crashes=_number(crashes),
        accepted=accepted_at(message),
        sender=str(sender),
        size=_number(size),
        recipients=_recipients(packed),
    )


def _recipients(packed: str) -> list[Recipient]:
    try:
        return unpack_recipients(packed)
    except (ValueError, TypeError):  # damaged, and shown as it is; take() finds it by its checksum
        return [Recipient(str(packed), reply="(damaged)")]


def _number(value: object) -> int:
    """A damaged row may have anything in its place."""
    return int(value) if isinstance(value, int | float) else 0


def matches(f: Filter, row: tuple[Any, ...]) -> bool:
    """The parts of a filter that SQL answers only roughly. row: begins with the columns of _BRIEF where the
    filter has an address."""
    if f.sender and not _is_address(f.sender, str(row[1])):
        return False
    return not f.recipient or any(_is_address(f.recipient, r.address) for r in _recipients(row[2]))


def _is_address(wanted: str, address: str) -> bool:
    wanted, address = wanted.casefold(), address.casefold()
    if wanted == "<>":
        return address in ("", "<>")
    return address.endswith(wanted) if wanted.startswith("@") else address == wanted


def _sources(f: Filter) -> Iterator[_Source]:
    if f.message or not (f.lane or f.states):
        yield _Source("", "1", ())
        return
    for state in sorted(f.states or State):
        if f.lane and state is not State.ACTIVE:
            yield _Source("entry_lane", f"lane=? AND state={int(state)}", (f.lane,))
        else:
            yield _Source("entry_state", f"state={int(state)}", ())


def _conditions(f: Filter) -> tuple[str, tuple[object, ...]]:
    """What SQL can sort out before a row reaches Python."""
    parts: list[str] = []
    params: list[object] = []
    if f.lane:
        parts.append("lane=?")
        params.append(f.lane)
    if f.states:
        parts.append(f"state IN ({','.join(str(int(state)) for state in f.states)})")
    if f.sender == "<>":
        parts.append("sender IN ('', '<>')")
    elif f.sender:
        parts.append("sender LIKE ? ESCAPE '!'")
        params.append(("%" if f.sender.startswith("@") else "") + _pattern(f.sender))
    if f.recipient == "<>":
        parts.append("""(recipients LIKE '%["",%' OR recipients LIKE '%["<>",%')""")
    elif f.recipient:
        parts.append("recipients LIKE ? ESCAPE '!'")
        params.append(f"%{_pattern(encode_basestring(f.recipient)[1:-1])}%")
    return "".join(f" AND {part}" for part in parts), tuple(params)


def _pattern(text: str) -> str:
    """For LIKE, which folds the case of ASCII alone: the rest may be anything."""
    for special in "!%_":
        text = text.replace(special, "!" + special)
    return _NOT_ASCII.sub("%", text)
