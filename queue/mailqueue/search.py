"""Searches over the entries, for lists and for operators.

A search runs in a thread, on a connection that only reads. It looks at a bounded number of rows in each of
its read transactions, so that it never keeps the log from being folded in, however little it finds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from json import dumps

from mailqueue.entry import Filter, Recipient, Row, State, message_name, message_number
from mailqueue.rows import accepted_at, entry_range, message_of, unpack_recipients
from mailqueue.schema import ENTRIES_BITS

_COLUMNS = "id, lane, state, due, attempts, crashes, sender, size, recipients"
_STEP = 2000  # rows looked at in one read transaction
END = 2**63 - 1
_STATES = frozenset(State)


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
        self, db: sqlite3.Connection, after: int, last: int, also: str, params: tuple[object, ...]
    ) -> list[Row]:
        query = f"SELECT {_COLUMNS} {self._from}{also} ORDER BY id"
        return [make_row(row) for row in db.execute(query, (*self._params, after, last, *params)).fetchall()]


class Search:
    """A Filter made ready. now: wall clock, seconds. ValueError: its message is no queue id."""

    def __init__(self, f: Filter, now: float) -> None:
        self._filter = f
        self._sources = list(_sources(f))
        self._also, self._params = _conditions(f)
        self._first, self._last = 0, END
        if f.message:
            self._first, self._last = entry_range(message_number(f.message))
            self._first -= 1
        if f.older_than:
            self._last = min(self._last, int((now - f.older_than) * 1e6) << ENTRIES_BITS)
        if f.younger_than:
            self._first = max(self._first, int((now - f.younger_than) * 1e6) << ENTRIES_BITS)

    def page(self, db: sqlite3.Connection, after: int, limit: int, last: int = END) -> list[Row]:
        """The first `limit` rows that match, with ids over `after` and up to `last`."""
        after, last = max(after, self._first), min(last, self._last)
        found: list[Row] = []
        while len(found) < limit and after < last:
            bound = min(source.bound(db, after, last) for source in self._sources)
            rows = [row for s in self._sources for row in s.rows(db, after, bound, self._also, self._params)]
            found += [row for row in sorted(rows, key=lambda row: row.id) if matches(self._filter, row)]
            after = bound
        return found[:limit]


def make_row(columns: tuple[int, str, int, int, int, int, str, int, str]) -> Row:
    number, lane, state, due, attempts, crashes, sender, size, packed = columns
    message = message_of(number)
    try:
        recipients = unpack_recipients(packed)
    except (ValueError, TypeError):  # damaged, and shown as it is; take() finds it by its checksum
        recipients = [Recipient(str(packed), reply="(damaged)")]
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
        recipients=recipients,
    )


def _number(value: object) -> int:
    """A damaged row may have anything in its place."""
    return int(value) if isinstance(value, int | float) else 0


def matches(f: Filter, row: Row) -> bool:
    """The parts of a filter that SQL answers only roughly."""
    if f.sender and not _is_address(f.sender, row.sender):
        return False
    return not f.recipient or any(_is_address(f.recipient, r.address) for r in row.recipients)


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
    if f.sender and f.sender != "<>" and f.sender.isascii():
        parts.append("sender LIKE ? ESCAPE '!'")
        params.append(("%" if f.sender.startswith("@") else "") + _escape(f.sender))
    if f.recipient and f.recipient != "<>" and f.recipient.isascii():
        parts.append("recipients LIKE ? ESCAPE '!'")
        params.append(f"%{_escape(dumps(f.recipient)[1:-1])}%")
    return "".join(f" AND {part}" for part in parts), tuple(params)


def _escape(text: str) -> str:
    for special in "!%_":
        text = text.replace(special, "!" + special)
    return text
