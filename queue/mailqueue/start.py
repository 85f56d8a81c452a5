"""Putting the parts of a queue together, and taking them apart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailqueue import durable, schema
from mailqueue.commit import GroupCommit
from mailqueue.database import Database, is_damage
from mailqueue.errors import QueueError, QueueFailed, SpoolUnusable
from mailqueue.hooks import Hooks
from mailqueue.ids import Ids
from mailqueue.leases import Leases
from mailqueue.lock import Lock
from mailqueue.observer import Observer, ShieldedObserver
from mailqueue.options import Options
from mailqueue.orphans import Sweep, sweep
from mailqueue.reader import Reader
from mailqueue.recover import Opening, Recovery, check_format, explain
from mailqueue.resume import Resume
from mailqueue.rows import milliseconds
from mailqueue.space import Room
from mailqueue.store import Store
from mailqueue.told import Tell
from mailqueue.writer import Writer


@dataclass(slots=True)
class Owned:
    """A spool in our possession, its database open."""

    spool: Path
    lock: Lock
    room: Room
    database: Database
    found: Recovery


def acquire(spool: Path, options: Options, now: Callable[[], float]) -> Owned:
    """Lock the spool and open its database. In a thread. SpoolLocked, SpoolFormat, SpoolUnusable."""
    if schema.sqlite_is_old():
        raise SpoolUnusable(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed")
    try:
        _make_directories(spool)
        check_format(spool)
        lock = Lock.acquire(spool)
    except OSError as error:
        raise explain(error, spool) from error
    try:
        _make_directory(spool / "content")
        room = Room(spool, options)
        opening = Opening(spool, options, room, now)
        database = opening.run()
        room.restore_ballast()
    except (OSError, sqlite3.Error) as error:
        lock.release()
        raise explain(error, spool) from error
    except BaseException:
        lock.release()
        raise
    return Owned(spool, lock, room, database, opening.found)


def _make_directories(spool: Path) -> None:
    """The spool itself, for its owner alone. SpoolUnusable when it is somebody else's and we are root."""
    _make_directory(spool)
    owner, user = spool.stat().st_uid, os.geteuid()
    if user == 0 and owner != 0:
        raise SpoolUnusable(f"the spool {spool} belongs to user {owner}: run as that user, not as root")


def _make_directory(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        durable.make_directory(path)


@dataclass(slots=True)
class Parts:
    """What a Queue is made of."""

    loop: asyncio.AbstractEventLoop
    owned: Owned
    room: Room
    database: Database
    ids: Ids
    writer: Writer
    commit: GroupCommit
    store: Store
    loads: Reader
    searches: Reader
    observer: Observer
    now: Callable[[], float]
    options: Options
    closing: bool = False
    heard: bool = False  # somebody listens to the observer

    def begin(self, heard: bool) -> None:
        """Tell what the start found, and look for orphans in the background. heard: somebody listens."""
        self.heard = heard
        found = self.owned.found
        for operation, error in found.errors:
            self.observer.spool_error(operation, error)
        if heard and found.possibly_delivered:
            self.observer.recovered(found.possibly_delivered, found.held, 0)
            self.commit.add(Tell())
        if found.postponed is not None:
            self._resume(Resume(found.postponed, self.writer.schedule.is_claimed, self._resume))
        started = self.ids.new()
        swept = Sweep()

        def work() -> None:
            result = sweep(
                self.database.path, self.store.directory, found.born, started, lambda: self.closing
            )
            swept.removed, swept.foreign = result.removed, result.foreign

        def done(error: Exception | None) -> None:
            self._swept(swept, error)

        self.store.run(work, done)

    def _resume(self, job: Resume) -> None:
        if not self.commit.closing:
            self.commit.add(job)

    def _swept(self, swept: Sweep, error: Exception | None) -> None:
        if error is not None:
            self.observer.spool_error("cleanup", error)
        if swept.foreign:
            files = "1 file" if swept.foreign == 1 else f"{swept.foreign} files"
            text = f"{files} in {self.store.directory} left alone: not this queue's"
            self.observer.spool_error("cleanup", QueueError(text))
        if swept.removed:
            self.observer.recovered(0, 0, swept.removed)

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Around reads: QueueFailed when the database is damaged, QueueError when it cannot be read now."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            self.observer.spool_error("read", error)
            if is_damage(error):
                self.commit.fail(error)
                raise QueueFailed(f"the database is damaged: {error}") from error
            raise QueueError(f"the database cannot be read: {error}") from error

    async def close(self) -> None:
        """After a drain. A queue that has failed leaves everything as it is on disk."""
        self.closing = True
        await self.loads.close()
        await self.searches.close()
        await self.store.close()
        self.commit.stop()
        try:
            if self.commit.failure is None:
                await asyncio.to_thread(self._close_cleanly)
            else:
                self.database.abandon()
        finally:
            self.owned.lock.release()

    def _close_cleanly(self) -> None:
        """In a thread. On a full disk the spool is left as after a crash; QueueFailed for other trouble."""
        try:
            self._fold_in()
        except (OSError, sqlite3.Error) as error:
            self.database.abandon()
            if not self.room.is_full_error(error):
                if is_damage(error):
                    self.commit.on_damage()
                raise QueueFailed(f"the queue could not be closed cleanly: {error}") from error
            return
        self.database.close()
        with contextlib.suppress(OSError):  # without the mark the next start takes more care, that is all
            durable.put(self.owned.spool / "clean", b"")

    def _fold_in(self) -> None:
        """Content files first: the mark says that nothing needs looking after."""
        durable.sync_directory(self.store.directory)
        try:
            self._write_last()
        except sqlite3.OperationalError as error:
            if not self.room.is_full_error(error) or not self.room.give_up_ballast():
                raise
            self._write_last()

    def _write_last(self) -> None:
        self.ids.write_exactly(self.database.writer)
        self.database.truncate_log()


def start(
    owned: Owned, options: Options, observer: Observer, hooks: Hooks, now: Callable[[], float]
) -> Parts:
    """On the event loop."""
    loop = asyncio.get_running_loop()
    observer = ShieldedObserver(observer, loop.call_exception_handler)
    ids = Ids(owned.found.last, now)
    writer = Writer(
        owned.database,
        hooks,
        ids,
        Leases(options.memory),
        lambda: int(now() * 1000),
        milliseconds(options.longest_wait),
    )
    path = owned.database.path
    store = Store(owned.spool / "content", options.inline_limit, ids.new, observer, lambda e: commit.fail(e))
    commit = GroupCommit(owned.database, writer, owned.room, hooks, observer, options, store.remove)
    commit.on_damage = lambda: durable.put(owned.spool / "suspect", b"")
    writer.report = lambda what, error: loop.call_exception_handler({"message": what, "exception": error})
    return Parts(
        loop=loop,
        owned=owned,
        room=owned.room,
        database=owned.database,
        ids=ids,
        writer=writer,
        commit=commit,
        store=store,
        loads=Reader(path, "mailqueue-load"),
        searches=Reader(path, "mailqueue-search"),
        observer=observer,
        now=now,
        options=options,
    )
