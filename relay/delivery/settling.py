"""The end of an attempt: log it, write the reports it calls for, settle the entry with the queue.

Ordinary ends (all delivered, or deferred) are settled at once on the loop. Where a report may be written the
content is needed: a task reads its first part, composes, and settles; the entry stays leased till then. A
report that cannot be made (a bug of ours) never ends a recipient: who failed stays in the queue and is tried
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

from mailqueue.entry import Entry, Loaded, Message, Recipient
from relay.config.model import Retry
from relay.delivery.age import Ages
from relay.delivery.attempt import Conclusion, conclude, conclude_unreached, spoiled
from relay.delivery.health import Trouble
from relay.delivery.job import Job, Verdict
from relay.delivery.neighbours import Clock, Queue, Reporter
from relay.delivery.retry import AMBIGUOUS_WAIT, next_due
from relay.envelope import Envelope
from relay.observe.events import Events
from relay.outcome import Delivered, Failed, Outcome


class Waiting(Protocol):
    """A lane, told when something of it is due again."""

    def due_again(self, due: float) -> None: ...


@dataclass(slots=True)
class Lease:
    """An entry in hand. since: monotonic seconds; todo: the recipients that go this lane's way, as indices;
    move: the lane of the others (since a reload), "" when there are none."""

    entry: Entry
    since: float
    todo: Sequence[int]
    move: str = ""


@dataclass(slots=True)
class Attempt:
    """A lease on its way. started, setup: monotonic seconds and seconds; sessions: past the greeting, so far;
    aborted: cut by us, because the relay stops; waiter: who gets the verdict instead of the lane; messages:
    what its connection will have carried after it, unless the next hop wants it in more pieces; behind: that
    connection carried other mail before."""

    lease: Lease
    job: Job
    started: float
    setup: float = 0.0
    sessions: int = 1
    aborted: bool = False
    waiter: asyncio.Future[Verdict] | None = None
    messages: int = 0
    behind: bool = False


@dataclass(slots=True)
class Ending:
    """What is left to do for an entry. loaded: None where nothing was read yet."""

    entry: Entry
    envelope: Envelope
    loaded: Loaded | None
    conclusion: Conclusion
    lane: Waiting
    move: str = ""


@dataclass(slots=True)
class Settling:
    """held: entries leased and not yet settled, by all lanes together."""

    queue: Queue
    events: Events
    reporter: Reporter
    clock: Clock
    random: Random
    retry: Retry
    held: int = 0
    ages: Ages = field(init=False)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ages = Ages(self.clock)

    def give_back(self, entry: Entry, lane: str | None = None, due: float = 0.0) -> None:
        """No attempt was made: as before the lease; lane: it goes another way now; due: epoch seconds, where
        what is due earlier is to go first."""
        self.held -= 1
        self.queue.settle(entry, entry.recipients, due=due, counted=False, lane=lane)

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Its content is not what was accepted."""
        self.held -= 1
        self.queue.quarantine(entry, reason)

    def forget(self) -> None:
        """The queue took an entry out of our hands (load said so)."""
        self.held -= 1

    def end(self, attempt: Attempt, route: str, lane: Waiting) -> None:
        """An attempt that counts is over; every recipient of lease.todo has a result in the job."""
        lease, job = attempt.lease, attempt.job
        entry, outcomes = lease.entry, job.results
        if len(outcomes) < len(lease.todo):
            complete(attempt)
        now, delay = self.clock.monotonic(), self.clock.time() - entry.accepted
        in_hand, waited = now - lease.since, attempt.started - lease.since - attempt.setup
        stages = (
            delay - in_hand if delay > in_hand else 0.0,
            waited if waited > 0.0 else 0.0,
            attempt.setup,
            now - attempt.started,
        )
        recipients = entry.recipients
        if not lease.move and _plain(entry, outcomes):
            return self._delivered(entry, route, delay, stages, outcomes)
        results = [(recipients[index], outcome) for index, outcome in sorted(outcomes.items())]
        conclusion = self._conclude(lease, results)
        self._tell(entry, route, conclusion, delay, stages)
        self._settle(Ending(entry, job.envelope, job.loaded, conclusion, lane, lease.move))

    def _delivered(
        self,
        entry: Entry,
        route: str,
        delay: float,
        stages: tuple[float, float, float, float],
        outcomes: dict[int, Outcome],
    ) -> None:
        """The ordinary end, kept short: what `conclude` would say of an entry that all got. Hot."""
        recipients, events = entry.recipients, self.events
        told = [(recipients[index].address, outcome) for index, outcome in outcomes.items()]
        events.attempted(entry.name, route, entry.sender, told, max(delay, 0.0), stages)
        self.queue.settle(entry)
        self.held -= 1
        events.removed(entry.name)

    def rescue(self, attempt: Attempt) -> None:
        """When even `end` fails: nobody is lost, whoever got the message gets no second one."""
        entry, results = attempt.lease.entry, attempt.job.results
        self.held -= 1
        stay = [
            recipient
            for index, recipient in enumerate(entry.recipients)
            if not isinstance(results.get(index), Delivered)
        ]
        self.queue.settle(entry, stay, due=self.clock.time() + AMBIGUOUS_WAIT)

    def fail(self, lease: Lease, route: str, lane: Waiting, outcome: Failed) -> None:
        """Every recipient of lease.todo gets `outcome` without a connection: DNS said no for good."""
        results = [(lease.entry.recipients[index], outcome) for index in lease.todo]
        self._spawn(self._unsent(lease.entry, route, lane, self._conclude(lease, results), lease.move))

    def expire(self, entry: Entry, route: str, lane: Waiting, trouble: Trouble) -> None:
        """The lane is suspended and the entry is over its time (promise 11)."""
        conclusion = conclude_unreached(entry, trouble.reply, trouble.host)
        self._spawn(self._unsent(entry, route, lane, conclusion))

    def _conclude(self, lease: Lease, results: Sequence[tuple[Recipient, Outcome]]) -> Conclusion:
        entry = lease.entry
        untouched: Sequence[Recipient] = ()
        if lease.move:
            ours = set(lease.todo)
            untouched = [recipient for index, recipient in enumerate(entry.recipients) if index not in ours]
        unlived = self.ages.unlived(entry.accepted)
        return conclude(
            entry, results, self.clock.time(), self.retry, self.random.random(), untouched, unlived
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _unsent(
        self, entry: Entry, route: str, lane: Waiting, conclusion: Conclusion, move: str = ""
    ) -> None:
        """The end of an entry that no connection was needed for."""
        try:
            loaded = await self.queue.load(entry)
            if loaded is None:
                return self.forget()
            envelope = Envelope.unpack(entry.sender, loaded.meta)
        except Exception as error:
            self.events.bug("delivery", error)
            conclusion = self._unreported(entry, conclusion)
            return self._store(Ending(entry, Envelope(), None, conclusion, lane, move), ())
        delay = self.clock.time() - entry.accepted
        self._tell(entry, route, conclusion, delay, (max(delay, 0.0), 0.0, 0.0, 0.0))
        self._settle(Ending(entry, envelope, loaded, conclusion, lane, move))

    def _tell(
        self,
        entry: Entry,
        route: str,
        conclusion: Conclusion,
        delay: float,
        stages: tuple[float, float, float, float],
    ) -> None:
        events = self.events
        told = [(recipient.address, outcome) for recipient, outcome in conclusion.results]
        events.attempted(entry.name, route, entry.sender, told, max(delay, 0.0), stages)
        for host in conclusion.ambiguous:
            events.ambiguous(entry.name, host)
        if conclusion.expired:
            events.expired(entry.name, route, conclusion.expired)

    def _settle(self, ending: Ending) -> None:
        conclusion = ending.conclusion
        if conclusion.reports and self.reporter.wanted(ending.entry, ending.envelope, conclusion):
            self._spawn(self._report(ending))
        else:
            self._store(ending, ())

    async def _report(self, ending: Ending) -> None:
        """Compose, then settle: both in one transaction of the queue (promise 3)."""
        entry, reports = ending.entry, list[Message]()
        try:
            loaded = ending.loaded or await self.queue.load(entry)
            if loaded is None:
                return self.forget()
            content = await _head(loaded, self.reporter.limit)
            reports = self.reporter.write(
                entry,
                ending.envelope,
                ending.conclusion,
                content,
                len(content) == loaded.size,
                self.clock.time(),
            )
        except Exception as error:
            self.events.bug("report", error)
            ending.conclusion = self._unreported(entry, ending.conclusion)
        self._store(ending, reports)

    def _unreported(self, entry: Entry, conclusion: Conclusion) -> Conclusion:
        """Nobody was told: who failed stays, and is tried again in due time."""
        stay = [replace(recipient, reply=outcome.reply.line) for recipient, outcome in conclusion.failed]
        due = next_due(entry.attempts + 1, self.clock.time(), self.retry, self.random.random())
        return replace(conclusion, remaining=conclusion.remaining + stay, due=max(due, conclusion.due))

    def _store(self, ending: Ending, reports: Sequence[Message]) -> None:
        entry, conclusion = ending.entry, ending.conclusion
        if not conclusion.remaining:
            self.queue.settle(entry, reports=reports)
            self.held -= 1
            self.events.removed(entry.name)
            return
        due = conclusion.due or self.clock.time()
        self.queue.settle(entry, conclusion.remaining, due=due, reports=reports, lane=ending.move or None)
        self.held -= 1
        if not ending.move:
            ending.lane.due_again(due)


def complete(attempt: Attempt, ambiguous: bool = False) -> None:
    """Give whoever has no result one: deferred, our fault."""
    entry, results = attempt.lease.entry, attempt.job.results
    missing = [index for index in attempt.lease.todo if index not in results]
    for index, (_, outcome) in zip(
        missing, spoiled([entry.recipients[i] for i in missing], ambiguous), strict=True
    ):
        results[index] = outcome


def _plain(entry: Entry, outcomes: dict[int, Outcome]) -> bool:
    """True when everybody got it and nobody is to be told."""
    for index, outcome in outcomes.items():
        if type(outcome) is not Delivered:
            return False
        if not outcome.dsn_passed_on and entry.recipients[index].options:
            return False
    return True


async def _head(loaded: Loaded, limit: int) -> bytes:
    """The first `limit` octets of the content. OSError when the file cannot be read."""
    if loaded.data is not None:
        return loaded.data[:limit]
    return await asyncio.to_thread(_read_head, loaded.path, limit) if loaded.path else b""


def _read_head(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)
