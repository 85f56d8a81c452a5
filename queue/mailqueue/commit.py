"""Group commit: whatever waits is written as one transaction, made durable by one sync, and then told.

The transaction is written on the event loop (a few microseconds a row); the sync runs in the one thread, so
that a slow disk stops nobody. A batch is written at the end of the loop's turn when nothing is in flight,
else when the sync in flight ends: under load batches form by themselves, without load nothing waits. What
nobody waits for is patient: it joins the next batch, or becomes one of its own a moment later, so that the
sync it needs does not stand before the next message. A waiter is released by a sync that began after the
COMMIT it was part of. Whatever fails here, except for a full disk and a busy database, is final: the kernel
may have dropped the pages, so nothing is acknowledged any more.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from mailqueue.aio import log_sync
from mailqueue.database import Database, damage, is_damage
from mailqueue.errors import NoSpace, QueueFailed
from mailqueue.hooks import Hooks
from mailqueue.job import Job
from mailqueue.observer import Observer
from mailqueue.options import MIB, Options
from mailqueue.space import Room
from mailqueue.transaction import Transaction
from mailqueue.worker import Worker
from mailqueue.writer import Writer

_MOST_JOBS = 500  # in one transaction, so that the loop is not kept from its work for long
_MOST_OCTETS = 4 * MIB  # of content, the same
_RETRY_PAUSE = 1.0  # s, when the disk is full and there is no ballast left to give up
_FULL_TIMES = 10  # in a row; after that a disk with plenty of room is not what is wrong
_BUSY_PAUSE = 0.05  # s, when another process is writing to the database (it should not)
_LAST_PATIENCE = 3.0  # s, when the queue is closing and cannot be written
_MOMENT = 0.005  # s that a patient job waits for others
_QUIET = 1.0  # s without traffic, after which the log is folded in
_QUIET_LOG = 4 * MIB  # below this it is not worth it
_TIGHT_LOG = 4 * MIB  # the longest log while the disk is nearly full
_FREE_KEPT = 64 * MIB  # free pages in the database that are not given back to the file system
_VACUUM_PAGES = 1000


class GroupCommit:
    def __init__(
        self,
        database: Database,
        writer: Writer,
        room: Room,
        hooks: Hooks,
        observer: Observer,
        options: Options,
        on_files: Callable[[list[int]], None],
    ) -> None:
        """on_files: gets the messages whose content files may go, once that is durable."""
        self._loop = asyncio.get_running_loop()
        self._worker = Worker(self._loop, "mailqueue-sync")
        self._log_sync = log_sync(self._loop) if options.aio else None
        self._database = database
        self._writer = writer
        self._room = room
        self._hooks = hooks
        self._observer = observer
        self._checkpoint_bytes = options.checkpoint_bytes
        self._on_files = on_files
        self._jobs: list[Job] = []
        self._in_flight: list[Job] = []
        self._pressing = False  # somebody waits for one of the jobs, or they have waited a moment
        self._moment: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._busy = False  # the thread has something to do
        self._paused: asyncio.TimerHandle | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._last_write = 0.0
        self._full_times = 0
        self._idle: list[asyncio.Future[None]] = []
        self._closing_until: float | None = None  # loop time: from then on nothing is tried again
        self.failure: Exception | None = None
        self.on_damage: Callable[[], None] = lambda: (
            None
        )  # SQLite called the database damaged; before on_failed

    def add(self, job: Job, patient: bool = False) -> None:
        """The job joins the next transaction. When the queue has failed it fails, on the loop's next turn.

        patient: nobody waits for it, and it may wait for others to share their sync.
        """
        if self.failure is not None:
            self._loop.call_soon(self.tell, job.fail, QueueFailed(f"the queue has failed: {self.failure}"))
            return
        self._jobs.append(job)
        if not patient:
            self._pressing = True
        self.kick()

    def kick(self) -> None:
        """Something is to be written."""
        if self._scheduled or self._busy or self._paused is not None or self.failure is not None:
            return
        if self._jobs and not self._pressing:
            if self._moment is None:
                self._moment = self._loop.call_later(_MOMENT, self._press)
            return
        self._scheduled = True
        self._loop.call_soon(self._run)

    def _press(self) -> None:
        """A moment is over."""
        self._moment = None
        self._pressing = bool(self._jobs)
        self.kick()

    async def drain(self) -> None:
        """Returns when nothing waits and nothing is in flight; after a failure, when nothing is in flight."""
        if self._busy or (self.failure is None and self._has_work()):
            self._pressing = True
            self.kick()
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def finish(self) -> None:
        """The last drain(). A disk that stays full must not keep the program from ending: what cannot be
        written for _LAST_PATIENCE fails."""
        self._closing_until = self._loop.time() + _LAST_PATIENCE
        await self.drain()

    @property
    def closing(self) -> bool:
        return self._closing_until is not None

    def stop(self) -> None:
        """After drain(): no timer and no thread is left."""
        for timer in (self._quiet_timer, self._paused, self._moment):
            if timer is not None:
                timer.cancel()
        self._worker.stop()
        if self._log_sync is not None:
            self._log_sync.stop()
            self._log_sync = None

    def _has_work(self) -> bool:
        return bool(self._jobs) or self._writer.schedule.is_dirty

    def _run(self) -> None:
        self._scheduled = False
        if self._busy or self.failure is not None:
            return
        if not self._has_work():
            self._tell_idle()
            return
        jobs = self._batch()
        began = time.perf_counter()
        try:
            tx = self._writer.write(jobs, everything=not self._jobs)
        except Exception as error:  # sorted out below
            self._write_failed(jobs, error)
            return
        self._full_times = 0
        self._last_write = self._loop.time()
        self._arm_quiet_timer()
        if jobs:
            self._sync(jobs, tx, began)
        else:  # only the schedule: nobody waits for that
            self._released(tx)
            self._next()

    def _batch(self) -> list[Job]:
        """The first of those that wait, as many as go into one transaction."""
        number = octets = 0
        while number < min(len(self._jobs), _MOST_JOBS) and octets < _MOST_OCTETS:
            octets += self._jobs[number].octets
            number += 1
        jobs = self._jobs[:number]
        del self._jobs[:number]
        self._pressing = bool(self._jobs)
        return jobs

    def _sync(self, jobs: list[Job], tx: Transaction, began: float) -> None:
        self._busy = True
        self._in_flight = jobs

        def done(_: Any, error: Exception | None) -> None:
            self._busy = False
            if error is not None:
                self._observer.spool_error("sync", error)
                self.fail(error)
            if self.failure is not None:  # this or another one: those who wait have been told
                self._tell_idle()
                return
            self._in_flight = []
            self._observer.committed(time.perf_counter() - began, len(jobs))
            for job in jobs:
                self.tell(job.succeed)
            self._released(tx)
            self._next()

        log = self._database.log
        if self._log_sync is None or not self._log_sync.begin(log.descriptor, done):
            self._worker.call(log.sync, done)

    def _released(self, tx: Transaction) -> None:
        """Tell the program what a durable transaction means to it."""
        for entry in tx.admitted:
            self.tell(self._hooks.on_leased, entry)
        for lane in tx.due:
            if self._writer.schedule.is_claimed(lane):
                self.tell(self._hooks.on_due, lane)
        if tx.wakes:
            self.tell(self._hooks.on_wake)
        if tx.files:
            self._on_files(tx.files)

    def tell(self, function: Callable[..., None], *args: object) -> None:
        """Call somebody else's function; what it raises is its own affair and stops nobody else."""
        try:
            function(*args)
        except Exception as error:  # reported with its traceback
            self._loop.call_exception_handler(
                {"message": "a callback of the mail queue failed", "exception": error}
            )

    def _next(self) -> None:
        """The thread is free: checkpoint when it is time, else go on writing."""
        limit = min(_TIGHT_LOG, self._checkpoint_bytes) if self._room.is_tight else self._checkpoint_bytes
        if self._seen(lambda: self._database.log.size() > limit):
            self._checkpoint(vacuum=False)
        elif self._has_work():
            self.kick()
        else:
            self._tell_idle()

    def _tell_idle(self) -> None:
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # --- what goes wrong

    def _write_failed(self, jobs: list[Job], error: Exception) -> None:
        """The transaction was rolled back."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._jobs[:0] = jobs
            self._pause(error, _BUSY_PAUSE)
        elif self._room.is_full_error(error):
            self._full(jobs, error)
        else:
            self._in_flight = jobs
            self._observer.spool_error("write", error)
            self.fail(error)

    def _full(self, jobs: list[Job], error: Exception) -> None:
        """Refuse what is new, give up the ballast, and try the rest again: the ballast's room is for that."""
        had_ballast = self._room.give_up_ballast()
        refusal = NoSpace("no space left on the disk of the spool")
        jobs = jobs + self._jobs
        self._jobs = [job for job in jobs if not job.refusable]
        for job in jobs:
            if job.refusable:
                self.tell(job.fail, refusal)
        self._full_times += 1
        if self._full_times >= _FULL_TIMES and self._room.has_plenty():
            self._observer.spool_error("write", error)
            self.fail(damage(f"SQLite says {error}, with room on the disk"))
        elif had_ballast or not self._has_work():
            self._observer.spool_error("write", error)
            self._next()
        else:
            self._pause(error, _RETRY_PAUSE)

    def _pause(self, error: Exception, seconds: float) -> None:
        self._observer.spool_error("write", error)

        if self._closing_until is not None and self._loop.time() >= self._closing_until:
            self._abandon()
            return

        def again() -> None:
            self._paused = None
            if self.failure is None:
                self._next()
            else:
                self._tell_idle()

        self._paused = self._loop.call_later(seconds, again)

    def _abandon(self) -> None:
        """The queue is closing and nothing can be written: on disk all stays as it was."""
        refusal = NoSpace("the queue was closed while it could not be written")
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            self.tell(job.fail, refusal)
        self._tell_idle()

    def _seen(self, look: Callable[[], bool]) -> bool:
        """The answer of a look at the disk. One that fails is as final as a write that fails."""
        try:
            return look()
        except (OSError, sqlite3.Error) as error:
            self._observer.spool_error("read", error)
            self.fail(error)
            return False

    def fail(self, error: Exception) -> None:
        """For good. Everybody who waits is told; what is on the disk is for the next process to find out."""
        if self.failure is not None:
            return
        self.failure = error
        refusal = QueueFailed(f"the queue has failed: {error}")
        jobs, self._in_flight, self._jobs = self._in_flight + self._jobs, [], []
        for job in jobs:
            self.tell(job.fail, refusal)
        if is_damage(error) or not isinstance(error, sqlite3.Error | OSError):
            self.tell(self.on_damage)  # what we cannot explain may be a value that no row can have
        if not self._busy:
            self._tell_idle()
        self.tell(self._hooks.on_failed, error)

    # --- checkpoints

    def _checkpoint(self, vacuum: bool) -> None:
        """In the thread. Writes wait meanwhile, reads use the other connection."""
        self._busy = True
        database = self._database
        database.lent = True

        def work() -> None:
            if vacuum and database.free_bytes() > _FREE_KEPT:
                database.vacuum(_VACUUM_PAGES)
            database.checkpoint()

        def done(_: Any, error: Exception | None) -> None:
            self._busy = False
            database.lent = False
            self._checkpointed(error)
            if vacuum:
                self._arm_quiet_timer()

        self._worker.call(work, done)

    def _checkpointed(self, error: Exception | None) -> None:
        if error is None:
            self._after_checkpoint()
            return
        self._observer.spool_error("checkpoint", error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._after_checkpoint()
        elif self._room.is_full_error(error):
            self._room.give_up_ballast()
            self._after_checkpoint()
        else:
            self.fail(error)
            self._tell_idle()

    def _after_checkpoint(self) -> None:
        """Not _next(): a checkpoint that could not be complete must not be followed by another at once."""
        if self.failure is None and self._has_work():
            self.kick()
        else:
            self._tell_idle()

    def _arm_quiet_timer(self) -> None:
        if self._quiet_timer is None:
            self._quiet_timer = self._loop.call_later(_QUIET, self._quiet)

    def _quiet(self) -> None:
        self._quiet_timer = None
        if self.failure is not None:
            return
        if self._busy or self._loop.time() - self._last_write < _QUIET:
            self._arm_quiet_timer()
        elif self._seen(
            lambda: self._database.log.size() > _QUIET_LOG or self._database.free_bytes() > _FREE_KEPT
        ):
            self._checkpoint(vacuum=True)
