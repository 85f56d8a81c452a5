"""The queue as its users see it. One object owns one spool directory, on one event loop.

Submit stores a message durably, take (or the admit hook) leases its entries, settle ends a lease. What is
promised, what is on the disk and what a crash leaves: queue/README.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mailqueue.accept import Accept
from mailqueue.content import Content
from mailqueue.desk import Desk
from mailqueue.entry import (
    Accepted,
    Entry,
    Loaded,
    Message,
    Recipient,
)
from mailqueue.errors import NoSpace, QueueClosed, QueueFailed
from mailqueue.loading import load
from mailqueue.observer import Observer, SilentObserver
from mailqueue.options import Options
from mailqueue.quarantine import Quarantine
from mailqueue.rows import milliseconds
from mailqueue.settle import Settle
from mailqueue.space import FULL_ERRNOS
from mailqueue.start import Owned, acquire
from mailqueue.take import Take


class Queue(Desk):
    """Made by Queue.open(). For the event loop: no method waits for a sync unless it is awaited."""

    def __init__(self, owned: Owned, options: Options, observer: Observer, now: Callable[[], float]) -> None:
        super().__init__(owned, options, observer, now)
        parts = self._parts
        self._commit = parts.commit
        self._writer = parts.writer
        self._leases = parts.writer.leases
        self._schedule = parts.writer.schedule
        self._store = parts.store
        self._observer: Observer = parts.observer
        self._now = parts.now
        self._database = parts.database
        self._closing = False
        self._backlog_first: set[str] = set()  # claimed lanes where it is the backlog's turn
        self._accepting = 0  # messages whose content file is being finished

    @classmethod
    async def open(
        cls,
        path: Path,
        options: Options = Options(),  # noqa: B008  frozen
        observer: Observer | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> Queue:
        """Take possession of the spool at `path`, made (0700) when missing. now: the wall clock. Without an
        observer nobody hears what was in flight at a crash: a later start with one is told.

        Raises SpoolLocked, SpoolFormat or SpoolUnusable.
        """
        owned = await asyncio.to_thread(acquire, path, options, now)
        queue = cls(owned, options, observer or SilentObserver(), now)
        queue._parts.begin(heard=observer is not None)
        return queue

    # --- in

    def content(self) -> Content:
        """Where the content of a new message is written to, piece by piece."""
        return self._store.new()

    def submit(self, message: Message, done: Accepted) -> int:
        """Store a message. done(id, None) once it is durable, else done(0, error); never called from within.

        error: NoSpace, QueueClosed, QueueFailed. Returns the id. ValueError for a message that can be no
        message.
        """
        content = message.content
        size = len(content) if isinstance(content, bytes) else content.size
        large = isinstance(content, Content) and content.is_large
        number = self._parts.ids.new() if isinstance(content, bytes) else content.message
        job = Accept(number, message, size, done)
        if isinstance(content, Content):
            content.submit()
        refusal = self._refusal(0 if large else size)
        if refusal is not None:
            self._refuse(content, done, refusal)
        elif large and isinstance(content, Content):
            self._accepting += 1
            job.guard(content)
            content.finish(partial(self._content_finished, job, content))
        elif isinstance(content, Content):
            self._commit.add(job.store(content.check, content.data))
        else:
            self._commit.add(job.store_small(content))
        return number

    def _refusal(self, size: int) -> Exception | None:
        if self._closing:
            return QueueClosed("the queue is closing")
        if self._commit.failure is not None:
            return QueueFailed(f"the queue has failed: {self._commit.failure}")
        if not self._parts.room.has_for(size):
            return NoSpace("too little space is free on the disk of the spool")
        return None

    def _refuse(self, content: Content | bytes, done: Accepted, error: Exception) -> None:
        if isinstance(content, Content):
            content.remove()
        self._parts.loop.call_soon(self._commit.tell, done, 0, error)

    def _content_finished(self, job: Accept, content: Content, error: Exception | None) -> None:
        self._accepting -= 1
        if error is None:
            self._commit.add(job.store(content.check, None))
            return
        self._observer.spool_error("content", error)
        if isinstance(error, OSError) and error.errno in FULL_ERRNOS:
            self._commit.tell(job.fail, NoSpace("no space left on the disk of the spool"))
        else:
            self._commit.tell(job.fail, QueueFailed(f"the content could not be written: {error}"))

    async def accept(self, message: Message) -> int:
        """submit(), awaited: the id, or its errors raised. Cancelling does not take it back."""
        future: asyncio.Future[int] = self._parts.loop.create_future()

        def done(number: int, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(number)
            else:
                future.set_exception(error)

        self.submit(message, done)
        return await future

    # --- out

    def take(
        self, lane: str, n: int, older_than: float = 0.0, from_future: bool = False
    ) -> asyncio.Future[list[Entry]]:
        """Lease up to n due entries of a claimed lane, fresh mail and backlog in turns.

        older_than (wall clock): instead of what is due, what was accepted before then; from_future: and what
        was accepted a minute or more after now, by a clock that was wrong. Meta and content: load().
        """
        future: asyncio.Future[list[Entry]] = self._parts.loop.create_future()
        backlog_first = lane in self._backlog_first
        if backlog_first:
            self._backlog_first.discard(lane)
        elif self._schedule.is_claimed(lane):
            self._backlog_first.add(lane)
        before = int(older_than * 1e6)
        give_back, tell = self._give_back, self._observer.quarantined
        self._add(Take(lane, n, before, from_future, backlog_first, future, give_back, tell))
        return future

    def _give_back(self, entry: Entry) -> None:
        self.settle(entry, entry.recipients, counted=False)

    def settle(
        self,
        entry: Entry,
        remaining: Sequence[Recipient] = (),
        *,
        due: float = 0.0,
        counted: bool = True,
        reports: Sequence[Message] = (),
        lane: str | None = None,
    ) -> None:
        """End a lease. Nothing remaining: it is forgotten; else it waits for `due` with these recipients.

        counted: this was an attempt. Not counted: it goes back as it was (due 0: with its old due). reports:
        new messages, stored in the same transaction. lane: it moves there. QueueError: not leased, or settled
        before.
        """
        self._leases.give_back(entry)
        lane = lane or entry.lane
        if remaining:
            self._schedule.expect(lane, milliseconds(due or entry.due))
        accepts = [self._report(report) for report in reports]
        job = Settle(self._leases, entry, remaining, milliseconds(due), counted, accepts, lane)
        self._add(job, patient=not remaining and not accepts)

    def _report(self, message: Message) -> Accept:
        if not isinstance(message.content, bytes):
            raise ValueError("a report's content is bytes")
        job = Accept(self._parts.ids.new(), message, len(message.content), None)
        return job.store_small(message.content)

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Put a leased entry's message aside: its content turned out to be damaged while it was read."""
        self._leases.give_back(entry)
        self._add(Quarantine(entry.message, reason, entry, self._observer.quarantined))

    def load_now(self, entry: Entry) -> Loaded | None:
        """Meta and content of a leased entry, read at once. None: damaged, quarantined, lease over."""
        with self._parts.readable():
            found = load(self._database.reading, entry.message, self._store.path(entry.message))
        return self._trusted(entry, found)

    async def load(self, entry: Entry) -> Loaded | None:
        """The same, in a thread. QueueError: it cannot be read now."""
        path = self._store.path(entry.message)
        with self._parts.readable():
            found = await self._parts.loads.run(lambda db: load(db, entry.message, path))
        return self._trusted(entry, found)

    def _trusted(self, entry: Entry, found: Loaded | str) -> Loaded | None:
        if isinstance(found, str):
            self.quarantine(entry, found)
            return None
        return found

    # --- lanes

    def claim(self, n: int, now: float) -> list[str]:
        """Up to n lanes with something due by `now`, earliest first: the caller's until unclaim()."""
        with self._parts.readable():
            lanes = self._schedule.claim(self._database.reading, n, milliseconds(now))
        if lanes:
            self._commit.kick()
        return lanes

    def claim_lane(self, lane: str) -> None:
        """This lane is the caller's; nothing happens when it was already."""
        if self._schedule.claim_lane(lane):
            self._commit.kick()

    def unclaim(self, lane: str, not_before: float = 0.0) -> None:
        """Back to the schedule: claim() offers it when something in it is due, but not before this time."""
        self._backlog_first.discard(lane)
        if self._schedule.unclaim(lane, milliseconds(not_before), milliseconds(self._now())):
            self._commit.kick()

    def trust(self, longest_wait: float) -> None:
        """From now on a stored time is believed up to so many seconds ahead (Options.longest_wait)."""
        self._schedule.far = milliseconds(longest_wait)

    def next_due(self, lane: str) -> float | None:
        """The earliest due of what waits in a lane, settles that are not yet written included."""
        with self._parts.readable():
            due = self._schedule.next_due(self._database.reading, lane, milliseconds(self._now()))
        return None if due is None else due / 1000

    def next_wake(self) -> float | None:
        """When claim() will have something to offer; None: nothing waits outside the claimed lanes."""
        with self._parts.readable():
            wake = self._schedule.next_wake(self._database.reading, milliseconds(self._now()))
        return None if wake is None else wake / 1000

    # --- the end

    async def close(self) -> None:
        """Write and sync what was asked for, fold in the log, mark the spool as clean, let go of it.
        Idempotent.

        What is still leased stays so on disk: the next start treats it as in flight.
        """
        if self._closing:
            return
        self._closing = True
        while self._accepting and self._commit.failure is None:
            await self._store.wait()
        await self._commit.finish()
        self._closed = True
        await self._parts.close()
