"""The tables, and how a connection is set up. What the columns mean: queue/README.md."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

VERSION = 1  # of the spool as a whole: the file `format` and user_version of the database
PAGE_SIZE = 8192
NEVER = 2**62  # lane.next of a lane in which nothing waits for a time (all held); milliseconds
ENTRIES_BITS = 10  # an entry's id is its message's id shifted by this, plus its place among the lanes
_SMALLEST_SQLITE = (3, 35, 0)  # RETURNING
_CACHE_KIB = 16384
_INCREMENTAL = 2
# A flipped bit makes octets of a text that are none: the checksum of its row is to find it, not an exception.
NO_TEXT = "\ufffd"  # stands for such octets; no lane has it in its name
_text = partial(str, encoding="utf-8", errors="replace")

# A partial index is used when the query's `state=1` is one side of an OR of its condition.
_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE message(id INTEGER PRIMARY KEY, meta BLOB NOT NULL, size INTEGER NOT NULL, crc INTEGER NOT NULL,
    file INTEGER NOT NULL, check_ INTEGER NOT NULL, content BLOB);
CREATE TABLE entry(id INTEGER PRIMARY KEY, lane TEXT NOT NULL, state INTEGER NOT NULL, due INTEGER NOT NULL,
    attempts INTEGER NOT NULL, crashes INTEGER NOT NULL, sender TEXT NOT NULL, size INTEGER NOT NULL,
    recipients TEXT NOT NULL, check_ INTEGER NOT NULL);
CREATE INDEX entry_state ON entry(state);
CREATE INDEX entry_due ON entry(lane, state, due) WHERE state=1 OR state=2;
CREATE INDEX entry_late ON entry(state, due) WHERE state=1 OR state=2;
CREATE INDEX entry_lane ON entry(lane, state) WHERE state=1 OR state=2 OR state=3 OR state=4;
CREATE TABLE lane(name TEXT PRIMARY KEY,
    incoming INTEGER NOT NULL, incoming_bytes INTEGER NOT NULL, deferred INTEGER NOT NULL,
    deferred_bytes INTEGER NOT NULL, held INTEGER NOT NULL, held_bytes INTEGER NOT NULL,
    quarantined INTEGER NOT NULL, quarantined_bytes INTEGER NOT NULL,
    next INTEGER, not_before INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX lane_next ON lane(next);
CREATE INDEX lane_postponed ON lane(not_before) WHERE not_before>0;
CREATE TABLE total(state INTEGER PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO total VALUES(1,0,0),(2,0,0),(3,0,0),(4,0,0);
"""


def sqlite_is_old() -> bool:
    return sqlite3.sqlite_version_info < _SMALLEST_SQLITE


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes and checkpoints. It may be used by one thread at a time, any thread.

    `synchronous=NORMAL`: COMMIT hands the log to the kernel, the group commit syncs it (commit.py); SQLite
    itself still syncs the header of a restarted log, the log before a checkpoint and the database after it.
    """
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    db.text_factory = _text
    try:
        db.execute(f"PRAGMA page_size={PAGE_SIZE}")
        if db.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:  # to set it is a write, each time
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("PRAGMA secure_delete=OFF")
        if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise sqlite3.OperationalError("its file system cannot hold a write-ahead log")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    except sqlite3.Error:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read and never checkpoints. It must not sit on an open statement."""
    uri = f"file:{quote(str(path))}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    db.text_factory = _text
    db.execute("PRAGMA query_only=ON")
    return db


def version(db: sqlite3.Connection) -> int:
    """0: an empty database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def is_intact(db: sqlite3.Connection) -> bool:
    """Are the tables and indexes those of VERSION? A flipped bit in their text is another column, or another
    condition. Others beside them do not matter."""
    return _schema_of_version() <= _schema(db)


@cache
def _schema_of_version() -> frozenset[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(_TABLES)
        return _schema(db)


def _schema(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return frozenset((kind, name, table, "".join(str(sql).split())) for kind, name, table, sql in rows)


def create_tables(db: sqlite3.Connection, born: int) -> None:
    """All in one transaction. born: message ids below this are none of this database's."""
    script = f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={VERSION};"
    script += f"INSERT INTO meta VALUES('born',{born}),('last',{born}),('starts',0),('checkpoints',0);COMMIT;"
    db.executescript(script)
