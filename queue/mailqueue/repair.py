"""After SQLite called the database damaged while it was in use: what can be set right, and what cannot.

Indexes and counters are derived; they are made anew. A table that does not read is beyond this: the database
is moved aside whole by the caller. The cost is that of the whole database, which is why only the file
`suspect` asks for it.
"""

from __future__ import annotations

import sqlite3

from mailqueue.database import damage
from mailqueue.schema import NEVER

_RECOUNT = f"""
INSERT INTO lane SELECT lane, sum(state=1), sum(size*(state=1)), sum(state=2), sum(size*(state=2)),
    sum(state=3), sum(size*(state=3)), sum(state=4), sum(size*(state=4)),
    coalesce(min(CASE WHEN state IN (1,2) THEN due END), {NEVER}), 0
FROM entry WHERE state BETWEEN 1 AND 4 GROUP BY lane
"""
# No checksum covers these. Without a state an operator is to look; without the others it begins anew.
_NUMBERS = (
    "UPDATE entry SET state=3 WHERE typeof(state)<>'integer' OR state NOT BETWEEN 0 AND 4",
    *(
        f"UPDATE entry SET {name}=0 WHERE typeof({name})<>'integer'"
        for name in ("due", "attempts", "crashes")
    ),
)
_TOTALS = """
UPDATE total SET entries=(SELECT count(*) FROM entry e WHERE e.state=total.state),
    bytes=(SELECT coalesce(sum(size), 0) FROM entry e WHERE e.state=total.state)
"""


def none_is_offered(db: sqlite3.Connection) -> bool:
    """Something waits, as the counters say, and no lane is ever offered: one of the two is damaged."""
    waits = db.execute("SELECT 1 FROM total WHERE state IN (1,2) AND entries>0").fetchone()
    offered = "SELECT 1 FROM lane INDEXED BY lane_next WHERE next IS NULL OR next<?"
    return waits is not None and db.execute(offered, (NEVER,)).fetchone() is None


def repair(db: sqlite3.Connection) -> None:
    """Make the indexes anew and read everything. sqlite3.DatabaseError when that is not enough."""
    db.execute("REINDEX")
    for statement in _NUMBERS:
        db.execute(statement)
    problem = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise damage(str(problem))


def recount(db: sqlite3.Connection) -> None:
    """Fill the counters from the entries. In the caller's transaction."""
    db.execute("DELETE FROM lane")
    db.execute(_RECOUNT)
    db.execute(_TOTALS)
