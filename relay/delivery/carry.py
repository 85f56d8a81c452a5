"""Carrying entries over the connections of a lane: start, `done`, and what is not ordinary about it.

The ordinary end costs no task: outcomes are settled, the connection goes back, the lane pumps. Apart from it:
a kept connection that was dead, content that is damaged, a fault of the route, recipients that another host
may take in the same attempt (detour), a bug of ours, an attempt that never ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mailqueue.entry import Entry, Loaded
from relay.delivery.crowding import too_many_connections
from relay.delivery.detour import detour, spare
from relay.delivery.health import Trouble
from relay.delivery.job import Job, Kind, Verdict
from relay.delivery.pool import Link
from relay.delivery.settling import Attempt, Lease, complete
from relay.delivery.transaction import transactions
from relay.envelope import Envelope
from relay.observe.labels import FAULT_REASONS
from relay.outcome import Deferred, Delivered
from relay.reply import Reply
from relay.routing.target import Target

if TYPE_CHECKING:
    from relay.delivery.lane import Lane

REFUSALS = 10  # in a row: then it is the host, not the messages
PAUSE = 5.0  # s, the least that a message waits after a fault at all hosts


class Carrier:
    """Belongs to one lane. detours: attempts that are at another host; refusals: messages in a row that a
    host (name, port) refused as it does those who may not send, though it took others."""

    __slots__ = ("detours", "lane", "refusals")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.detours = 0
        self.refusals: dict[tuple[str, int], int] = {}

    def send(self, lease: Lease, link: Link) -> None:
        """Start one entry on an idle connection. Never raises: a bug defers the entry."""
        lane = self.lane
        job: Job | None = None
        try:
            loaded = self._load(lease)
            if loaded is None:
                lane.tools.settling.forget()
                lane.links.put_back(link, lane.takes)
                return lane.links.rest(link)
            job = Job(lease.entry, _envelope(lease.entry, loaded.meta), loaded, lease.todo)
            self._start(job, lease, link)
        except Exception as error:
            lane.links.busy.pop(link, None)
            link.abort()
            lane.links.put_back(link, False)
            self._spoil(Attempt(lease, job or _empty(lease), lane.tools.clock.monotonic()), error)

    def _start(self, job: Job, lease: Lease, link: Link) -> None:
        tools = self.lane.tools
        attempt = Attempt(lease, job, tools.clock.monotonic())
        if link.messages:
            tools.events.connection_reused()
            attempt.behind = True
        else:
            attempt.setup = link.setup
        if self.lane.throttle is not None:
            attempt.messages = link.messages + transactions(len(lease.todo))
        self.lane.links.busy[link] = attempt
        link.start(job, self.done)

    def _load(self, lease: Lease) -> Loaded | None:
        """The content, still in memory or from the queue. None: quarantined. QueueError: it cannot be read
        now."""
        entry = lease.entry
        if entry.content is not None:
            return Loaded(entry.meta, entry.size, 0, data=entry.content)
        return self.lane.tools.queue.load_now(entry)

    def done(self, link: Link, job: Job, verdict: Verdict) -> None:
        """A job is over (callback of the connection)."""
        lane = self.lane
        attempt = lane.links.busy.pop(link, None)
        if attempt is None:
            return  # the watchdog, or a bug, ended it before
        if attempt.waiter is not None:
            attempt.waiter.set_result(verdict)
            return
        target = lane.links.targets.get(link)
        lane.links.put_back(link, lane.takes and not lane.tools.stopping)
        try:
            self._ended(attempt, verdict, target, link)
        except Exception as error:
            self._spoil(attempt, error)
        if lane.links.pool.crowded:
            lane.links.pool.serve()
        lane.pump()
        lane.links.rest(link)

    def _ended(self, attempt: Attempt, verdict: Verdict, target: Target | None, link: Link) -> None:
        lane, settling = self.lane, self.lane.tools.settling
        self._measure(verdict)
        if lane.throttle is not None and link.messages > attempt.messages:
            lane.throttle.bucket.owe(link.messages - attempt.messages)
        if target is not None:
            self.answered(attempt, verdict, target, link)
        if verdict.kind is Kind.FRESH:
            lane.tools.events.retried_fresh(lane.policy.route)
            lane.again(attempt.lease)
        elif attempt.aborted and not _final(attempt):
            settling.give_back(attempt.lease.entry)
        elif verdict.kind is Kind.CORRUPT:
            settling.quarantine(attempt.lease.entry, verdict.text)
        elif lane.links.working > (not link.closed) and _crowded(attempt):
            lane.links.crowded(link)
            lane.again(attempt.lease)
        elif verdict.elsewhere and target is not None and self._may_detour(len(verdict.elsewhere)):
            self.detours += 1
            lane.tools.spawn(self._detour(attempt, verdict, target), lane.tools.tasks)
        else:
            if lane.links.choices > 1:
                spare(attempt.job)
            self._settle(attempt, verdict)

    def answered(self, attempt: Attempt, verdict: Verdict, target: Target, link: Link) -> None:
        """What a transaction says about its host: that it refuses us (530 and the like), or that it does not
        any more."""
        lane, faults = self.lane, self.lane.tools.faults
        if verdict.lane in FAULT_REASONS and self._takes_other_mail(attempt, target, link):
            verdict.lane = ""  # what it refuses is this message
        elif verdict.lane in FAULT_REASONS:
            faults.refused(lane.policy, target, _fault(attempt, verdict))
            lane.links.avoid(target)
        elif (faults.records or self.refusals) and _answered(attempt):
            self.refusals.pop((target.name, target.port), None)
            faults.delivered(lane.policy, target)

    def _takes_other_mail(self, attempt: Attempt, target: Target, link: Link) -> bool:
        """True when this host has just got other mail from us, or this message for another recipient. Not for
        ever: sessions that worked may do so no more."""
        host, results = (target.name, target.port), attempt.job.results
        if any(isinstance(results.get(index), Delivered) for index in attempt.job.todo):
            return True
        self.refusals[host] = self.refusals.get(host, 0) + 1
        return self.refusals[host] <= REFUSALS and (attempt.behind or self.lane.links.proved(target, link))

    def _settle(self, attempt: Attempt, verdict: Verdict, *, all_asked: bool = False) -> None:
        """The attempt is over at its last host. all_asked: there is no other."""
        lane = self.lane
        if not verdict.lane:
            lane.grew()
            return lane.tools.settling.end(attempt, lane.policy.route, lane)
        trouble = _fault(attempt, verdict)
        closed = self._closed_until(trouble)
        if _final(attempt):
            lane.tools.settling.end(attempt, lane.policy.route, lane)
        else:
            due = self._next_turn(trouble, closed, all_asked)
            lane.tools.settling.give_back(attempt.lease.entry, due=due)
            if due:
                lane.due_again(due)
        if closed is not None:
            lane.trouble(replace(trouble, not_before=closed))

    def _closed_until(self, trouble: Trouble) -> float | None:
        """Until when, at the least, the lane is in trouble (monotonic seconds); None: it is the fault of one
        host, and there is another."""
        lane = self.lane
        if trouble.reason not in FAULT_REASONS or lane.policy.kind != "via":
            return 0.0
        return lane.tools.faults.closed_until(lane.policy)

    def _next_turn(self, trouble: Trouble, closed: float | None, all_asked: bool) -> float:
        """When a message that met this is due again (epoch seconds, 0.0: as before). After a fault at all
        hosts it goes behind what is due till then: one that is always refused must not hold back others."""
        if trouble.reason not in FAULT_REASONS or (closed is None and not all_asked):
            return 0.0
        clock = self.lane.tools.clock
        return clock.time() + max((closed or 0.0) - clock.monotonic(), PAUSE)

    def _may_detour(self, recipients: int) -> bool:
        """Is there another host, and room to try it? Else the retry schedule does."""
        lane = self.lane
        return (
            lane.links.choices > 1
            and not lane.tools.stopping
            and self.detours < max(1, lane.policy.concurrency // 2)
            and (lane.throttle is None or lane.throttle.soon(transactions(recipients)))
            and lane.links.lend()
        )

    async def _detour(self, attempt: Attempt, verdict: Verdict, target: Target) -> None:
        lane = self.lane
        try:
            verdict = await detour(lane, attempt, verdict, target)
            attempt.waiter = None
            if verdict.kind is Kind.CORRUPT:
                lane.tools.settling.quarantine(attempt.lease.entry, verdict.text)
            else:
                self._settle(attempt, verdict, all_asked=True)
        except Exception as error:
            self._spoil(attempt, error)
        finally:
            self.detours -= 1
            lane.links.abroad -= 1
            lane.links.pool.release()
            lane.links.pool.serve()
            lane.pump()

    def watch(self, now: float) -> None:
        """End what never ends. now: monotonic seconds."""
        bounds = self.lane.tools.bounds
        for link, attempt in list(self.lane.links.busy.items()):
            if now - attempt.started > bounds.attempt + attempt.lease.entry.size / 1000:
                late = TimeoutError(f"{attempt.lease.entry.name}: no end of an attempt at {link.host}")
                self._cut(link, attempt, late)

    def _cut(self, link: Link, attempt: Attempt, error: Exception) -> None:
        lane = self.lane
        del lane.links.busy[link]
        ambiguous = link.past_dot
        link.abort()
        if attempt.waiter is not None:
            attempt.waiter.set_exception(error)
        else:
            lane.links.put_back(link, False)
            self._spoil(attempt, error, ambiguous)

    def _spoil(self, attempt: Attempt, error: Exception, ambiguous: bool = False) -> None:
        """A bug of ours: told once, the entry is deferred, whoever has a final result keeps it."""
        settling = self.lane.tools.settling
        settling.events.bug("delivery", error)
        complete(attempt, ambiguous)
        try:
            settling.end(attempt, self.lane.policy.route, self.lane)
        except Exception as second:
            settling.events.bug("delivery", second)
            self._rescue(attempt)

    def _rescue(self, attempt: Attempt) -> None:
        settling = self.lane.tools.settling
        try:
            settling.rescue(attempt)
        except (
            Exception
        ) as error:  # the queue itself refuses: the lease stays, and is found at the next start
            settling.events.bug("delivery", error)

    def _measure(self, verdict: Verdict) -> None:
        stage = self.lane.tools.events.stage
        if verdict.envelope:
            stage("envelope", verdict.envelope)
        if verdict.data:
            stage("data", verdict.data)
        if verdict.final:
            stage("final", verdict.final)


def _envelope(entry: Entry, meta: bytes) -> Envelope:
    """As the front made it where the lease still carries it, else as it was stored."""
    kept = entry.context
    return kept if isinstance(kept, Envelope) else Envelope.unpack(entry.sender, meta)


def _empty(lease: Lease) -> Job:
    """A job that never began: for an entry whose content or envelope could not be had."""
    envelope = Envelope(lease.entry.sender)
    return Job(lease.entry, envelope, Loaded(b"", lease.entry.size, 0), lease.todo)


def _final(attempt: Attempt) -> bool:
    """True when the attempt must be recorded: somebody is final, or may have the message."""
    return any(
        not isinstance(outcome, Deferred) or outcome.ambiguous for outcome in attempt.job.results.values()
    )


def _answered(attempt: Attempt) -> bool:
    return any(outcome.reply.code for outcome in attempt.job.results.values())


def _crowded(attempt: Attempt) -> bool:
    """True when the next hop refused the whole message because we have too many connections: fewer of them
    will do, and the message is innocent."""
    results = attempt.job.results
    first = next(iter(results.values()), None)
    if not isinstance(first, Deferred) or first.ambiguous or not too_many_connections(first.reply):
        return False
    return len(results) == len(attempt.lease.todo) and all(
        isinstance(outcome, Deferred) and outcome.reply == first.reply for outcome in results.values()
    )


def _fault(attempt: Attempt, verdict: Verdict) -> Trouble:
    """What the lane is suspended for, with the words of one of the replies."""
    for outcome in attempt.job.results.values():
        if isinstance(outcome, Deferred):
            return Trouble(verdict.lane, outcome.reply, outcome.host)
    return Trouble(verdict.lane, Reply(0, "4.3.0", verdict.text or "the next hop does not take our mail"))
