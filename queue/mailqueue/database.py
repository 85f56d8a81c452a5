"""The open database: the connection that writes, one that only reads, and the log as a file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mailqueue.log import Log
from mailqueue.schema import connect_reader

# A constraint that fails is damage as well: what we write keeps them all.
_DAMAGED = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
)


def is_damage(error: BaseException) -> bool:
    """Does SQLite call the database damaged?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def damage(text: str) -> sqlite3.DatabaseError:
    """What we find ourselves, as SQLite would say it."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


class Database:
    """One writer. While a checkpoint uses it in a thread, `reading` is the other connection."""

    def __init__(self, path: Path, writer: sqlite3.Connection) -> None:
        """The writer must have written already, so that the log exists. It now belongs to this object."""
        self.path = path
        self.writer = writer
        self._spare = connect_reader(path)
        self._spare.execute("SELECT count(*) FROM meta").fetchone()  # from here on it counts as a reader
        self.log = Log(path.with_name(path.name + "-wal"))
        self.lent = False  # the writer is being used by the thread

    @property
    def reading(self) -> sqlite3.Connection:
        """For short reads on the event loop: fetch everything at once."""
        return self._spare if self.lent else self.writer

    def checkpoint(self) -> None:
        """Fold the log into the database and start it anew. Runs in a thread, with the writer lent;
        sqlite3.Error.

        The checkpoint leaves the log complete; it is the next transaction that begins it from the front, if
        no reader is busy, and syncs its new header. That transaction is made here, so that this sync happens
        in the thread too.
        """
        busy, frames, moved = self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if not busy and frames == moved:
            self.writer.execute("UPDATE meta SET value=value+1 WHERE key='checkpoints'")

    def vacuum(self, pages: int) -> None:
        """Give this many free pages back to the file system (with the next checkpoint). Runs in a thread."""
        self.writer.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

    def free_bytes(self) -> int:
        """Inside the database file."""
        pages: int = self.writer.execute("PRAGMA freelist_count").fetchone()[0]
        size: int = self.writer.execute("PRAGMA page_size").fetchone()[0]
        return pages * size

    def truncate_log(self) -> None:
        """Everything into the database file, durably, and the log emptied. sqlite3.Error when that fails."""
        self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """After truncate_log(): no log is left."""
        self._spare.close()
        self.writer.close()
        self.log.close()

    def abandon(self) -> None:
        """Close and leave everything on disk as it is, for the next process to judge.

        The last connection to close would checkpoint, and sync the log again; the one that can only read
        cannot, so it goes last. (SQLite sees a connection only once it has read something.)
        """
        if self.writer.in_transaction:
            self.writer.execute("ROLLBACK")
        self.writer.close()
        self._spare.close()
        self.log.close()
