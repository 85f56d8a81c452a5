"""After SQLite called the database damaged while it was in use: what can be set right, and what cannot.

Indexes and counters are derived; they are made anew. A table that does not read is beyond this: the database
is moved aside whole by the caller. The cost is that of the whole database, which is why only the file
`suspect` asks for it.
"""

from __future__ import annotations

import sqlite3

from mailqueue.database import damage
from mailqueue.rows import are_numbers
from mailqueue.schema import NEVER, NO_TEXT

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
INSERT INTO total SELECT s.column1, count(e.id), coalesce(sum(e.size), 0)
FROM (VALUES (1), (2), (3), (4)) s LEFT JOIN entry e ON e.state=s.column1 GROUP BY s.column1
"""


def needs_a_look(db: sqlite3.Connection) -> bool:
    """Counters that are none; or something waits, as they say, and no lane is ever offered."""
    totals = dict(db.execute("SELECT state, entries FROM total").fetchall())
    if sorted(map(str, totals)) != ["1", "2", "3", "4"] or not are_numbers(*totals.values()):
        return True
    offered = "SELECT 1 FROM lane INDEXED BY lane_next WHERE next IS NULL OR next<?"
    return totals[1] + totals[2] > 0 and db.execute(offered, (NEVER,)).fetchone() is None


def repair(db: sqlite3.Connection) -> None:
    """Make the indexes anew and read everything. sqlite3.DatabaseError when that is not enough: then nothing
    was changed, since the old indexes may name what the table has lost."""
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("REINDEX")
        for statement in _NUMBERS:
            db.execute(statement)
        lost = [(n,) for n, lane in db.execute("SELECT id, lane FROM entry") if NO_TEXT in str(lane)]
        db.executemany("UPDATE entry SET state=4 WHERE id=?", lost)  # no lane of that name can be asked for
        problem = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if problem != "ok":
            raise damage(str(problem))
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def recount(db: sqlite3.Connection) -> None:
    """Fill the counters from the entries. In the caller's transaction."""
    db.execute("DELETE FROM lane")
    db.execute(_RECOUNT)
    db.execute("DELETE FROM total")
    db.execute(_TOTALS)
