"""What a start took back is kept in the database until somebody was told.

A start that is killed after its recovery, or an operator's command while the relay is down, tells nobody:
then the next start does. A crash just after the telling makes it be told twice, never not at all.
"""

from __future__ import annotations

import sqlite3

from mailqueue.database import damage
from mailqueue.transaction import Transaction

_ADD = "INSERT INTO meta VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=value+excluded.value"
_KEYS = ("untold", "untold_held")


def read_meta(db: sqlite3.Connection) -> dict[str, int]:
    """The table of single numbers. Damage where one of them is missing or is none."""
    values = dict(db.execute("SELECT key, value FROM meta").fetchall())
    for key in ("last", "born", *_KEYS):
        if type(values.get(key)) is not int:
            raise damage(f"it does not say what {key!r} is")
    return values


class Told:
    """The counters, in a transaction of this connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def find(self, possibly_delivered: int, held: int) -> None:
        self._db.executemany(_ADD, zip(_KEYS, (possibly_delivered, held), strict=True))

    def untold(self) -> tuple[int, int]:
        """possibly_delivered and held, of all starts that nobody heard of and this one."""
        values = read_meta(self._db)
        return values[_KEYS[0]], values[_KEYS[1]]


class Tell:
    """The job that notes that it was told."""

    refusable = False
    octets = 0

    def write(self, tx: Transaction) -> None:
        tx.db.execute("UPDATE meta SET value=0 WHERE key IN (?,?)", _KEYS)

    def succeed(self) -> None:
        """Nobody waits for it."""

    def fail(self, error: Exception) -> None:
        """The next start tells again."""
