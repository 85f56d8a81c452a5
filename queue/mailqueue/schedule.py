"""The lanes: how many entries rest in each, and which lane is offered when.

A lane is claimed (delivery has it in memory and asks for its entries itself) or on the schedule, where one
row says when it is to be offered next. Rows are kept in the transactions that change the entries, never
counted; no call here costs more than a few index look-ups for each lane it is about.
"""

from __future__ import annotations

import sqlite3

from mailqueue.database import damage
from mailqueue.rows import clamp
from mailqueue.schema import NEVER, NO_TEXT
from mailqueue.transaction import Transaction

_COUNTS = (
    "incoming", "incoming_bytes", "deferred", "deferred_bytes",
    "held", "held_bytes", "quarantined", "quarantined_bytes",
)  # fmt: skip
# A NULL on either side of min() gives NULL: the row of a claimed lane.
_UPSERT = (
    f"INSERT INTO lane(name, {', '.join(_COUNTS)}, next) VALUES(?,?,?,?,?,?,?,?,?,?)"
    + " ON CONFLICT(name) DO UPDATE SET "
    + ", ".join(f"{name}={name}+excluded.{name}" for name in _COUNTS)
    + ", next=max(not_before, min(next, excluded.next))"
)
_SET_NEXT = "UPDATE lane SET next=?, not_before=? WHERE name=?"
_MOVE_NEXT = "UPDATE lane SET next=max(not_before, ?) WHERE name=?"
_CLAIM = "UPDATE lane SET next=NULL, not_before=0 WHERE name=? AND next IS NOT NULL"
_DELETE_EMPTY = "DELETE FROM lane WHERE name=? AND incoming=0 AND deferred=0 AND held=0 AND quarantined=0"
_HEAD = {
    state: f"SELECT due FROM entry INDEXED BY entry_due WHERE lane=? AND state={state} ORDER BY due LIMIT 1"
    for state in (1, 2)
}
_TAIL = {
    state: f"SELECT 1 FROM entry INDEXED BY entry_due WHERE lane=? AND state={state} AND due>? LIMIT 1"
    for state in (1, 2)
}
_OFFERED = "SELECT name FROM lane WHERE next<=? ORDER BY next LIMIT ?"
_OFFERED_FAR = "SELECT name FROM lane WHERE next>? AND next<? LIMIT ?"
_NEXT = "SELECT name, next FROM lane WHERE next<? ORDER BY next LIMIT ?"
_NEXT_FAR = "SELECT name FROM lane WHERE next>? AND next<? LIMIT ?"


def head(db: sqlite3.Connection, lane: str, now: int, far: int) -> int | None:
    """The earliest due of what waits in a lane, ms; a due that a lying clock put further ahead than `far`
    counts as now."""
    earliest = None
    for state in (1, 2):
        row: tuple[int] | None = db.execute(_HEAD[state], (lane,)).fetchone()
        if row and (earliest is None or row[0] < earliest):
            earliest = row[0]
    if earliest is None or earliest <= now:
        return earliest
    for state in (1, 2):
        if db.execute(_TAIL[state], (lane, now + far)).fetchone():
            return now
    return earliest


def waiting(tx: Transaction, lane: str) -> int:
    """How many entries of a lane wait, as its counters say."""
    query = "SELECT incoming+deferred FROM lane WHERE name=?"
    row: tuple[int] | None = tx.db.execute(query, (lane,)).fetchone()
    change = tx.lanes.get(lane)
    return (row[0] if row else 0) + (change.counts[0] + change.counts[2] if change else 0)


class Schedule:
    """All times in ms of the wall clock. far: what is due later than so much from now is due now."""

    def __init__(self, far: int) -> None:
        self.far = far
        self._claimed: set[str] = set()
        self._unwritten: set[str] = set()  # claimed, and the row may still say when to offer it
        self._unclaimed: dict[str, int] = {}  # given back with this not_before, row not yet written
        self._coming: dict[str, int] = {}  # claimed lane -> earliest due among settles not yet written
        self._told: int | None = None  # what next_wake() said last

    @property
    def is_dirty(self) -> bool:
        return bool(self._unwritten or self._unclaimed)

    def is_claimed(self, lane: str) -> bool:
        return lane in self._claimed

    def claim_lane(self, lane: str) -> bool:
        """False: it was claimed already."""
        if lane in self._claimed:
            return False
        self._claimed.add(lane)
        self._unwritten.add(lane)
        self._unclaimed.pop(lane, None)
        return True

    def claim(self, db: sqlite3.Connection, n: int, now: int) -> list[str]:
        """Up to n lanes that are due, earliest first, from now on claimed."""
        self._told = None  # what was said about the next lane may be about one of these
        limit = n + self._changing
        rows = db.execute(_OFFERED, (now, limit)).fetchall()
        rows += db.execute(_OFFERED_FAR, (now + self.far, NEVER, limit)).fetchall()
        lanes = [lane for (lane,) in rows if self._is_offered(lane)][:n]
        if not all(isinstance(lane, str) and NO_TEXT not in lane for lane in lanes):
            raise damage("a lane has a name that is none")
        for lane in lanes:
            self.claim_lane(lane)
        return lanes

    def unclaim(self, lane: str, not_before: int, now: int) -> bool:
        """False: it was not claimed."""
        if lane not in self._claimed:
            return False
        self._claimed.remove(lane)
        self._unwritten.discard(lane)
        self._coming.pop(lane, None)
        self._unclaimed[lane] = clamp(not_before, now, self.far)
        return True

    def expect(self, lane: str, due: int) -> None:
        """A settle on its way to disk makes something of this lane due then."""
        if lane in self._claimed:
            self._coming[lane] = min(due, self._coming.get(lane, NEVER))

    def next_due(self, db: sqlite3.Connection, lane: str, now: int) -> int | None:
        found = head(db, lane, now, self.far)
        coming = self._coming.get(lane)
        if coming is None:
            return found
        return clamp(coming, now, self.far) if found is None else min(found, clamp(coming, now, self.far))

    def next_wake(self, db: sqlite3.Connection, now: int) -> int | None:
        """When the first of the lanes on the schedule is to be offered."""
        self._told = self._next_wake(db, now)
        return self._told

    def _next_wake(self, db: sqlite3.Connection, now: int) -> int | None:
        limit = 1 + self._changing
        rows = db.execute(_NEXT, (NEVER, limit)).fetchall()
        earliest: int | None = next((due for lane, due in rows if self._is_offered(lane)), None)
        if earliest is not None and earliest > now:
            rows = db.execute(_NEXT_FAR, (now + self.far, NEVER, limit)).fetchall()
            if any(self._is_offered(lane) for (lane,) in rows):
                return now
        return earliest

    @property
    def _changing(self) -> int:
        """How many rows may say something else than is true by now."""
        return len(self._unwritten) + len(self._unclaimed)

    def _is_offered(self, lane: str) -> bool:
        """Is what this lane's row says about its next time true?"""
        return lane not in self._claimed and lane not in self._unclaimed

    def write(self, tx: Transaction) -> None:
        """Bring the rows of the lanes in line, at the end of a transaction."""
        if not tx.lanes and not self.is_dirty:
            return
        db = tx.db
        if tx.lanes:
            db.executemany(_UPSERT, [self._upsert_row(lane, tx) for lane in tx.lanes])
        if self._unwritten:
            db.executemany(_CLAIM, [(lane,) for lane in self._unwritten])
        self._write_next(tx)
        emptied = [(lane,) for lane, change in tx.lanes.items() if change.shrunk]
        if emptied:
            db.executemany(_DELETE_EMPTY, emptied)

    def _upsert_row(self, lane: str, tx: Transaction) -> tuple[object, ...]:
        change = tx.lanes[lane]
        return (lane, *change.counts, None if lane in self._claimed else change.earliest)

    def _write_next(self, tx: Transaction) -> None:
        """Lanes that lost something, and lanes that come back to the schedule: look at what waits in them."""
        for lane, not_before in self._unclaimed.items():
            self._set_next(tx, lane, not_before)
        for lane, change in tx.lanes.items():
            if change.reschedule and lane not in self._claimed and lane not in self._unclaimed:
                if change.urgent:
                    self._set_next(tx, lane, 0)
                else:
                    tx.db.execute(_MOVE_NEXT, (self._head_or_never(tx, lane), lane))

    def _set_next(self, tx: Transaction, lane: str, not_before: int) -> None:
        following = max(self._head_or_never(tx, lane), not_before)
        tx.db.execute(_SET_NEXT, (following, not_before if not_before > tx.now else 0, lane))

    def _head_or_never(self, tx: Transaction, lane: str) -> int:
        earliest = head(tx.db, lane, tx.now, self.far)
        return NEVER if earliest is None else earliest

    def committed(self, tx: Transaction, everything: bool) -> bool:
        """The transaction is committed; everything: no settle is left that was not in it.

        Returns whether an unclaimed lane is now due before what next_wake() said.
        """
        changed = bool(self._unclaimed) or any(lane not in self._claimed for lane in tx.lanes)
        self._unwritten.clear()
        self._unclaimed.clear()
        if everything:
            self._coming.clear()
        earliest = self._next_wake(tx.db, tx.now) if changed else None
        if earliest is None or (self._told is not None and earliest >= self._told):
            return False
        self._told = earliest
        return True
