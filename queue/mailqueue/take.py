"""Entries that wait are leased."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailqueue.database import damage
from mailqueue.entry import Entry
from mailqueue.quarantine import Quarantine
from mailqueue.rows import ENTRY_COLUMNS, EntryRow, entry_is_sound, lease, message_of
from mailqueue.schedule import head, waiting
from mailqueue.schema import ENTRIES_BITS
from mailqueue.transaction import Transaction

_TAKE_DUE = {
    state: f"SELECT {ENTRY_COLUMNS} FROM entry INDEXED BY entry_due"
    f" WHERE lane=? AND state={state} AND due<=? ORDER BY due LIMIT ?"
    for state in (1, 2)
}
_TAKE_FAR = {state: text.replace("due<=?", "due>?") for state, text in _TAKE_DUE.items()}
_TAKE_OLD = {
    state: f"SELECT {ENTRY_COLUMNS} FROM entry INDEXED BY entry_lane"
    f" WHERE lane=? AND state={state} AND id<? ORDER BY id LIMIT ?"
    for state in (1, 2)
}
_TAKE_FUTURE = {state: text.replace("id<?", "id>?") for state, text in _TAKE_OLD.items()}
_LEASE = "UPDATE entry SET state=0 WHERE id=?"
_IDS_AHEAD = 60 * 1_000_000  # µs; ids are a second ahead after a crash, and clocks are set back a little


class Take:
    """Lease up to n due entries of a lane, fresh ones and backlog in turns.

    backlog_first: whose turn it is. older_than: a message id; then not what is due but what was accepted
    before. from_future: with older_than, also what bears a later time than now: its age is not known.
    """

    refusable = False
    octets = 0

    def __init__(
        self,
        lane: str,
        n: int,
        older_than: int,
        from_future: bool,
        backlog_first: bool,
        future: asyncio.Future[list[Entry]],
        give_back: Callable[[Entry], None],
        tell: Callable[[str, str], None],
    ) -> None:
        self._lane = lane
        self._n = n
        self._older_than = older_than
        self._from_future = from_future
        self._backlog_first = backlog_first
        self._future = future
        self._give_back = give_back
        self._tell = tell
        self._taken: list[Entry] = []
        self._damaged: list[Quarantine] = []

    def write(self, tx: Transaction) -> None:
        tx.flush()
        rows = self._choose(tx)
        if not rows:
            self._check_index(tx)
        if any(row[1] != self._lane or row[2] not in (1, 2) for row in rows):
            raise damage(f"an index of {self._lane} has what the entries have not")
        sound = [row for row in rows if entry_is_sound(row)]
        self._damaged = [self._quarantine(tx, row[0]) for row in rows if not entry_is_sound(row)]
        tx.db.executemany(_LEASE, [(row[0],) for row in sound])
        for row in sound:
            tx.uncount(row[1], row[2], row[7])
        self._taken = [lease(row) for row in sound]
        tx.taken += self._taken

    def _check_index(self, tx: Transaction) -> None:
        """Nothing is due: so say the earliest and the counters too, or the index is damaged. A flipped bit in
        it hides what stands behind it, without a word from SQLite."""
        earliest = head(tx.db, self._lane, tx.now, tx.far)
        if earliest is None and waiting(tx, self._lane) > 0:
            raise damage(f"entries of {self._lane} are in no index")
        if not self._older_than and earliest is not None and not tx.now < earliest <= tx.now + tx.far:
            raise damage(f"entries of {self._lane} are hidden in their index")

    def _quarantine(self, tx: Transaction, entry: int) -> Quarantine:
        job = Quarantine(message_of(entry), "the checksum of an entry is wrong", None, self._tell)
        job.write(tx)
        return job

    def _choose(self, tx: Transaction) -> list[EntryRow]:
        if self._older_than:
            kinds = [self._old(tx, state) for state in (1, 2)]
        else:
            kinds = [self._due(tx, state) for state in (1, 2)]
        if self._backlog_first:
            kinds.reverse()
        return in_turns(kinds[0], kinds[1], self._n)

    def _old(self, tx: Transaction, state: int) -> list[EntryRow]:
        rows: list[EntryRow] = tx.db.execute(
            _TAKE_OLD[state], (self._lane, self._older_than << ENTRIES_BITS, self._n)
        ).fetchall()
        if self._from_future and len(rows) < self._n:
            now = (tx.now * 1000 + _IDS_AHEAD) << ENTRIES_BITS
            rows += tx.db.execute(_TAKE_FUTURE[state], (self._lane, now, self._n - len(rows))).fetchall()
        return rows

    def _due(self, tx: Transaction, state: int) -> list[EntryRow]:
        rows: list[EntryRow] = tx.db.execute(_TAKE_DUE[state], (self._lane, tx.now, self._n)).fetchall()
        if len(rows) < self._n:  # what a lying clock put far ahead is due as well
            rows += tx.db.execute(
                _TAKE_FAR[state], (self._lane, tx.now + tx.far, self._n - len(rows))
            ).fetchall()
        return rows

    def succeed(self) -> None:
        for job in self._damaged:
            job.succeed()
        if self._future.cancelled():
            for entry in self._taken:
                self._give_back(entry)
        else:
            self._future.set_result(self._taken)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


def in_turns(first: list[EntryRow], second: list[EntryRow], n: int) -> list[EntryRow]:
    """Up to n rows, one of each by turns; when one kind runs out the rest is of the other."""
    mixed = [row for pair in zip(first, second, strict=False) for row in pair]
    shorter = min(len(first), len(second))
    return (mixed + first[shorter:] + second[shorter:])[:n]
