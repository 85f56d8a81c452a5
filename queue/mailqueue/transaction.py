"""One transaction in the making: the rows it will write, and what is to be told once it is durable.

Nothing in memory changes before COMMIT has succeeded, so that a rollback needs no undoing: jobs write
themselves into this object, and what they mean for the lease table and the counters is applied from it
afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from mailqueue.entry import Entry, State
from mailqueue.leases import Mark
from mailqueue.options import SMALLEST_INLINE_LIMIT
from mailqueue.rows import EntryRow, MessageRow, entry_range, message_of
from mailqueue.schema import NEVER

_INSERT_MESSAGE = "INSERT INTO message VALUES(?,?,?,?,?,?,?)"
_INSERT_ENTRY = "INSERT INTO entry VALUES(?,?,?,?,?,?,?,?,?,?)"
_UPDATE_ENTRY = "UPDATE entry SET lane=?, state=?, due=?, attempts=?, recipients=?, check_=? WHERE id=?"
_DELETE_ENTRY = "DELETE FROM entry WHERE id=?"
_DELETE_SPENT = "DELETE FROM message WHERE id=? AND NOT EXISTS(SELECT 1 FROM entry WHERE id BETWEEN ? AND ?)"

ChangeRow = tuple[str, int, int, int, str, int, int]


class LaneChange:
    """What happens to a lane's entries at rest in this transaction."""

    __slots__ = ("counts", "earliest", "reschedule", "shrunk", "urgent")

    def __init__(self) -> None:
        self.counts = [0] * 8  # entries and bytes of INCOMING, DEFERRED, HELD, QUARANTINED
        self.earliest = NEVER  # of what was added to wait for a time
        self.shrunk = False
        self.reschedule = False  # something that waited is gone: look again for the earliest
        self.urgent = False  # an operator wants it now: a postponement ends


class Transaction:
    """now: wall clock in ms. far: what is due later than so much from now is due now. room: octets of content
    that may be kept in memory with new leases."""

    def __init__(
        self, db: sqlite3.Connection, now: int, far: int, admit: Callable[[str], bool], room: int
    ) -> None:
        self.db = db
        self.now = now
        self.far = far
        self.admit = admit
        self.room = room
        self.messages: list[MessageRow] = []
        self.entries: list[EntryRow] = []
        self._changes: list[ChangeRow] = []
        self._gone: list[tuple[int]] = []
        self._spent: list[tuple[int, int, int]] = []
        self._spent_large: list[tuple[int, int, int]] = []
        self.lanes: dict[str, LaneChange] = {}
        self.marks: dict[int, Mark] = {}  # of leased entries; goes before those of the lease table
        self.admitted: list[Entry] = []  # fresh leases, told by on_leased
        self.taken: list[Entry] = []  # leases told by the future of take
        self.ended: list[Entry] = []  # leases whose settle is in this transaction
        self.due: dict[str, None] = {}  # lanes with something new to take, in order
        self.wakes = False  # an unclaimed lane is due earlier than was said
        self.files: list[int] = []  # messages whose content files have lost their row

    def change(self, row: ChangeRow) -> None:
        """A leased entry comes to rest."""
        self._changes.append(row)

    def forget(self, entry: int, size: int) -> None:
        """An entry is final; its message goes when it was the last."""
        self._gone.append((entry,))
        message = message_of(entry)
        spent = self._spent if size <= SMALLEST_INLINE_LIMIT else self._spent_large
        spent.append((message, *entry_range(message)))

    def _lane(self, lane: str) -> LaneChange:
        change = self.lanes.get(lane)
        if change is None:
            change = self.lanes[lane] = LaneChange()
        return change

    def count(self, lane: str, state: int, size: int, due: int) -> None:
        """An entry comes to rest in this lane and state."""
        change = self._lane(lane)
        place = 2 * state - 2
        change.counts[place] += 1
        change.counts[place + 1] += size
        if state <= State.DEFERRED:
            change.earliest = min(change.earliest, due)

    def uncount(self, lane: str, state: int, size: int) -> None:
        """An entry at rest leaves this lane or state."""
        change = self._lane(lane)
        place = 2 * state - 2
        change.counts[place] -= 1
        change.counts[place + 1] -= size
        change.shrunk = True
        if state <= State.DEFERRED:
            change.reschedule = True

    def hasten(self, lane: str) -> None:
        """Something of this lane is due now on an operator's word."""
        change = self._lane(lane)
        change.reschedule = change.urgent = True
        self.due[lane] = None

    def flush(self) -> None:
        """Write what was collected, new rows before old ones go. Needed before a job reads the tables."""
        db = self.db
        if self.messages:
            db.executemany(_INSERT_MESSAGE, self.messages)
            db.executemany(_INSERT_ENTRY, self.entries)
            self.messages, self.entries = [], []
        if self._changes:
            db.executemany(_UPDATE_ENTRY, self._changes)
            self._changes = []
        if self._gone:
            db.executemany(_DELETE_ENTRY, self._gone)
            self._gone = []
            self._forget_messages()

    def _forget_messages(self) -> None:
        if self._spent:
            self.db.executemany(_DELETE_SPENT, self._spent)
            self._spent = []
        for spent in self._spent_large:
            for message, file in self.db.execute(f"{_DELETE_SPENT} RETURNING id, file", spent).fetchall():
                if file:
                    self.files.append(message)
        self._spent_large = []
