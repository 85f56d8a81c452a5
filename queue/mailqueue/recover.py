"""Opening the database of a spool, whatever state the last process left it in.

Runs in a thread, under the lock, before anything is accepted. The cost follows what was in flight, not the
queue. queue/README.md has the table of states and what is done about each.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mailqueue import durable
from mailqueue.database import Database, damage, is_damage
from mailqueue.errors import MovedAside, SpoolFormat, SpoolUnusable
from mailqueue.lost_log import has_more, keep
from mailqueue.options import Options
from mailqueue.orphans import newest
from mailqueue.repair import needs_a_look, recount, repair
from mailqueue.resume import resume_some
from mailqueue.rows import milliseconds
from mailqueue.schedule import Schedule
from mailqueue.schema import PAGE_SIZE, VERSION, connect_writer, create_tables, is_intact, version
from mailqueue.space import FULL_ERRNOS, Room
from mailqueue.told import Told, read_meta
from mailqueue.totals import Totals
from mailqueue.transaction import Transaction

_FORMAT = b"mailqueue %d\n" % VERSION
_FILES = ("queue.db", "queue.db-wal", "queue.db-shm")


@dataclass(slots=True)
class Recovery:
    """What opening found: entries that were in flight, those of them now held, and what went wrong.

    What an earlier start found and did not live to tell is counted in."""

    possibly_delivered: int = 0
    held: int = 0
    last: int = 0  # highest message id that may have been used
    born: int = 0  # message ids below this are none of this database's
    postponed: int | None = None  # see resume_some
    errors: list[tuple[str, Exception]] = field(default_factory=list)


def check_format(spool: Path) -> bool:
    """Is there a spool of a version that this one knows? False: none yet. SpoolFormat: of another version."""
    try:
        descriptor = durable.open_regular(spool / "format")
    except FileNotFoundError:
        return False
    try:
        found = os.read(descriptor, 100)
    finally:
        os.close(descriptor)
    if found != _FORMAT:
        text = found[:40].decode("ascii", "replace").strip()
        raise SpoolFormat(
            f"the spool {spool} has format {text!r}; this version knows {_FORMAT.decode().strip()!r}"
        )
    return True


class Opening:
    """One start. now: wall clock in seconds."""

    def __init__(self, spool: Path, options: Options, room: Room, now: Callable[[], float]) -> None:
        self._spool = spool
        self._options = options
        self._room = room
        self._now = now
        self._far = milliseconds(options.longest_wait)
        self._path = spool / "queue.db"
        self._known = False  # there was a spool
        self.found = Recovery()

    def run(self) -> Database:
        """The database, ready for use. SpoolFormat; sqlite3.Error and OSError for a sick disk."""
        known = check_format(self._spool)
        clean = durable.remove_durably(self._spool / "clean")
        self._known = known
        reason = self._wrong_file(known)
        if reason:
            self._move_aside(reason)
        elif known and not self._path.exists():
            self._report(SpoolUnusable(f"{self._path} is missing: starting with an empty queue"))
            self._known = False
        if not clean:
            self._rescue_log()
        try:
            return self._open_with_room()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._move_aside(str(error))
        return self._open_with_room()

    def _wrong_file(self, known: bool) -> str:
        """What SQLite should not see: it would wait at a FIFO, follow a link, and delete the log beside an
        empty database."""
        for name in _FILES:
            try:
                found = (self._spool / name).lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is no regular file"
            if known and name == _FILES[0] and not found.st_size:
                return "it is empty"
            if known and name == _FILES[1] and found.st_size and not self._path.exists():
                return "it is missing"
        return ""

    def _report(self, error: Exception) -> None:
        self.found.errors.append(("open", error))

    def _rescue_log(self) -> None:
        """Make sure that what can be read of the log is on the disk, before anything is built on it."""
        log = self._spool / _FILES[1]
        durable.remove(self._spool / _FILES[2])
        if not log.exists():
            return
        try:
            durable.rewrite(log)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            durable.rewrite_in_place(log)

    def _open_with_room(self) -> Database:
        """A full disk must not keep what is queued from being delivered: then the ballast goes."""
        try:
            return self._open()
        except sqlite3.OperationalError as error:
            if not self._room.is_full_error(error) or not self._room.give_up_ballast():
                raise
            self._report(error)
        return self._open()

    def _open(self) -> Database:
        if not self._path.exists():
            _create_empty(self._path)
        db = connect_writer(self._path)
        try:
            self._prepare(db)
            database = Database(self._path, db)
        except BaseException:
            db.close()
            raise
        try:
            database.log.sync()
            durable.remove_durably(self._spool / "suspect")  # only now is what was repaired on the disk
            if not check_format(self._spool):
                durable.put(self._spool / "format", _FORMAT)
            durable.sync_directory(self._spool)
        except BaseException:
            database.abandon()
            raise
        return database

    def _prepare(self, db: sqlite3.Connection) -> None:
        found = version(db)
        if found == 0 and self._known:
            raise damage("it has no version")
        if found == 0:
            create_tables(db, max(int(self._now() * 1e6), newest(self._spool / "content") + 1))
        elif found != VERSION:
            raise SpoolFormat(
                f"{self._path} has version {found}; this version of the program knows {VERSION}"
            )
        elif not is_intact(db):
            raise damage("its tables are not those of its version")
        _, frames, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if found:
            self._keep_lost_log(db, max(frames, 0))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        suspect = (self._spool / "suspect").exists() or needs_a_look(db)
        if suspect:
            repair(db)
        db.execute("BEGIN IMMEDIATE")
        if suspect:
            recount(db)
        self._take_back_leases(db)
        db.execute("UPDATE meta SET value=value+1 WHERE key='starts'")
        values = read_meta(db)
        db.execute("COMMIT")
        self.found.last, self.found.born = values["last"], values["born"]

    def _take_back_leases(self, db: sqlite3.Connection) -> None:
        """What was in flight waits for the pause, or is held; claimed lanes go back to the schedule."""
        now = int(self._now() * 1000)
        tx = Transaction(db, now, self._far, lambda lane: False, 0)
        query = "SELECT id, lane, size, crashes FROM entry INDEXED BY entry_state WHERE state=0"
        due = now + int(self._options.recovery_pause * 1000)
        held = 0
        rows = []
        for number, lane, size, crashes in db.execute(query).fetchall():
            state = 3 if crashes + 1 >= self._options.crash_limit else 2
            held += state == 3
            rows.append((state, due, crashes + 1, number))
            tx.count(lane, state, size, due)
        db.executemany("UPDATE entry SET state=?, due=?, crashes=? WHERE id=?", rows)
        Schedule(self._far).write(tx)
        Totals(db).write(db, tx.lanes.values())
        self.found.postponed = resume_some(db, now, self._far)
        told = Told(db)
        told.find(len(rows), held)
        self.found.possibly_delivered, self.found.held = told.untold()

    def _move_aside(self, reason: str) -> None:
        """Keep the damaged database whole, for salvage, and make room for a new one."""
        target = self._aside()
        durable.make_directory(target)
        for name in _FILES:
            if os.path.lexists(self._spool / name):
                durable.move(self._spool / name, target / name)
        durable.remove(self._spool / "suspect")
        durable.sync_directory(self._spool)
        self._known = False
        self._report(MovedAside(f"{self._path} is damaged ({reason}) and was moved to {target}"))

    def _aside(self) -> Path:
        """The name of a directory that is not yet there."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._now()))
        target = self._spool / f"damaged-{stamp}"
        for number in range(1, 100):
            if not target.exists():
                break
            target = self._spool / f"damaged-{stamp}-{number}"
        return target

    def _keep_lost_log(self, db: sqlite3.Connection, frames: int) -> None:
        """What was committed behind a bad frame of the log is not lost without a word."""
        log = self._spool / _FILES[1]
        if not has_more(log, frames, PAGE_SIZE):
            return
        target = self._aside()
        try:
            messages = keep(log, target, db)
        except OSError as error:  # such as no room for it: what can be delivered is not to wait for that
            self._report(SpoolUnusable(f"{log} is damaged and could not be kept: {error.strerror}"))
            return
        if messages is not None:
            alone = "1 message is" if messages == 1 else f"{messages} messages are"
            text = f"{log} is damaged: {alone} in it alone, others may be sent again"
            self._report(MovedAside(f"{text}; it is kept in {target}"))


def _create_empty(path: Path) -> None:
    """So that the file, and with it SQLite's other two, is its owner's alone. Before any connection, see
    log.py.
    """
    os.close(durable.create(path))


def explain(error: Exception, spool: Path) -> SpoolUnusable:
    """An error of opening as one clear line."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"not writable ({reason})"
        if error.filename:
            reason = f"{reason}: {error.filename}"
        return SpoolUnusable(f"the spool {spool} cannot be used: {reason}")
    return SpoolUnusable(f"the spool {spool} cannot be used: {error}")
