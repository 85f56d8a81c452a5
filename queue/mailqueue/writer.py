"""Writes jobs as one transaction, and applies to memory what was committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from mailqueue.database import Database
from mailqueue.hooks import Hooks
from mailqueue.ids import Ids
from mailqueue.job import Job
from mailqueue.leases import Leases
from mailqueue.schedule import Schedule
from mailqueue.totals import Totals
from mailqueue.transaction import Transaction

Report = Callable[[str, Exception], None]


class Writer:
    """report: gets (what, exception) for the exceptions of hooks."""

    def __init__(
        self, database: Database, hooks: Hooks, ids: Ids, leases: Leases, now: Callable[[], int], far: int
    ) -> None:
        """now: wall clock in ms. far: see Schedule."""
        self._database = database
        self._hooks = hooks
        self._ids = ids
        self._now = now
        self.leases = leases
        self.schedule = Schedule(far)
        self.totals = Totals(database.writer)
        self.report: Report = _raise

    def write(self, jobs: Sequence[Job], everything: bool) -> Transaction:
        """Write and commit (not yet durable). Any exception: nothing was written, nothing has changed."""
        db = self._database.writer
        tx = Transaction(db, self._now(), self.schedule.far, self._admit, self.leases.room)
        db.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                job.write(tx)
            tx.flush()
            self.schedule.write(tx)
            counts = self.totals.write(db, tx.lanes.values()) if tx.lanes else None
            mark = self._ids.write(db)
            db.execute("COMMIT")
        except BaseException:
            self._undo(tx)
            raise
        self._ids.keep(mark)
        if counts is not None:
            self.totals.keep(counts)
        self._apply(tx, everything)
        return tx

    def _undo(self, tx: Transaction) -> None:
        if tx.db.in_transaction:  # SQLite rolls some errors back itself
            try:
                tx.db.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.report("ROLLBACK failed", error)
        for entry in tx.admitted:
            self._hooks.unadmit(entry.lane)

    def _admit(self, lane: str) -> bool:
        try:
            return self._hooks.admit(lane)
        except Exception as error:  # somebody else's bug: the mail waits in the queue, which is always right
            self.report("admit failed", error)
            return False

    def _apply(self, tx: Transaction, everything: bool) -> None:
        leases = self.leases
        leases.note(tx.marks)
        for entry in tx.admitted:
            leases.begin(entry)
        for entry in tx.taken:
            leases.begin(entry)
        for entry in tx.ended:
            leases.end(entry)
        tx.wakes = self.schedule.committed(tx, everything)


def _raise(what: str, error: Exception) -> None:
    raise error
