"""After SQLite called the database damaged while it was in use: what can be set right, and what cannot.

Indexes and counters are derived; they are made anew. A table that does not read is beyond this: the database
is moved aside whole by the caller. The cost is that of the whole database, which is why only the file
`suspect` asks for it.
"""

from __future__ import annotations

import sqlite3

from mailqueue.schema import NEVER

_RECOUNT = f"""
INSERT INTO lane SELECT lane, sum(state=1), sum(size*(state=1)), sum(state=2), sum(size*(state=2)),
    sum(state=3), sum(size*(state=3)), sum(state=4), sum(size*(state=4)),
    coalesce(min(CASE WHEN state IN (1,2) THEN due END), {NEVER}), 0
FROM entry WHERE state BETWEEN 1 AND 4 GROUP BY lane
"""
_TOTALS = """
UPDATE total SET entries=(SELECT count(*) FROM entry e WHERE e.state=total.state),
    bytes=(SELECT coalesce(sum(size), 0) FROM entry e WHERE e.state=total.state)
"""


def repair(db: sqlite3.Connection) -> None:
    """Make the indexes anew and read everything. sqlite3.DatabaseError when that is not enough."""
    db.execute("REINDEX")
    problem = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        error = sqlite3.DatabaseError(str(problem))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def recount(db: sqlite3.Connection) -> None:
    """Fill the counters from the entries. In the caller's transaction."""
    db.execute("DELETE FROM lane")
    db.execute(_RECOUNT)
    db.execute(_TOTALS)
