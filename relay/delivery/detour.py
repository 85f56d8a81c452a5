"""The next hosts of the same attempt, for the recipients that the first host deferred at MAIL or RCPT.

The exceptional path, so a coroutine: at most SESSIONS sessions per attempt in all, on connections of their
own that are closed afterwards. What a later host says of a recipient counts (verdict.combine).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from relay.delivery.dial import BUDGET, SESSIONS, NoSuchHost, Unreachable
from relay.delivery.failure import OpenFailed
from relay.delivery.job import Job, Kind, Verdict
from relay.delivery.pool import Link
from relay.delivery.settling import Attempt
from relay.delivery.transaction import transactions
from relay.delivery.verdict import combine, unasked
from relay.outcome import Deferred, Outcome
from relay.reply import Reply
from relay.routing.target import Target

if TYPE_CHECKING:
    from relay.delivery.lane import Lane

_T = TypeVar("_T")


async def detour(lane: Lane, attempt: Attempt, verdict: Verdict, used: Target) -> Verdict:
    """Try verdict.elsewhere at the other addresses. Returns the last verdict; outcomes stand in the job.

    The caller has taken a place in the pool. Ends early when the relay stops."""
    job = attempt.job
    for target in await _others(lane, job, used):
        if attempt.sessions >= SESSIONS or not verdict.elsewhere:
            break
        await _unless_stopped(lane, _room(lane))
        link = None if lane.tools.stopping else await _open(lane, attempt, target, verdict.elsewhere)
        if lane.tools.stopping and link is None:
            spare(job)
            break
        if link is None:
            continue
        attempt.sessions += 1
        await _turn(lane, link, len(verdict.elsewhere))
        if link.closed:  # before it was used: the host has said nothing
            spare(job)
            continue
        earlier = dict(job.results)
        job.todo = verdict.elsewhere
        verdict = await _carry(lane, attempt, link)
        lane.carrier.answered(attempt, verdict, target, link)
        for index, outcome in earlier.items():
            job.results[index] = _later(attempt, outcome, job.results.get(index, outcome))
        if attempt.aborted:
            spare(job)
        if verdict.kind is not Kind.DONE:
            break
    return verdict


def _later(attempt: Attempt, earlier: Outcome, later: Outcome) -> Outcome:
    """Which word counts; a connection that we cut ourselves has none, unless the peer may have the
    message."""
    if attempt.aborted and isinstance(later, Deferred) and not later.ambiguous:
        return earlier
    return combine(earlier, later)


def spare(job: Job) -> None:
    """Not all hosts were asked for a capability that the message needs."""
    for index, outcome in job.results.items():
        job.results[index] = unasked(outcome)


async def _others(lane: Lane, job: Job, used: Target) -> list[Target]:
    """Where else to try. When not all are known now, or one is at fault, nobody can say that no host would
    do."""
    try:
        targets = await _unless_stopped(lane, lane.tools.dialer.addresses(lane.policy))
    except (NoSuchHost, Unreachable, TimeoutError):
        targets = None
    where = (used.address, used.port)
    others = [target for target in targets or () if (target.address, target.port) != where]
    usable = lane.tools.dialer.usable(lane.policy, others)
    if targets is None or len(usable) < len(others):
        spare(job)
    return usable


async def _open(lane: Lane, attempt: Attempt, target: Target, todo: Sequence[int]) -> Link | None:
    """A session, or None: its failure is the later word about `todo`."""
    try:
        return await _unless_stopped(lane, lane.tools.dialer.open(target, lane.policy))
    except TimeoutError:
        outcome = Deferred(Reply(0, "4.4.1", f"no connection within {BUDGET:.0f} s"), target.name, "connect")
    except OpenFailed as failed:
        attempt.sessions += failed.greeted
        outcome = Deferred(failed.reply, failed.host, failed.stage)
    results = attempt.job.results
    for index in todo:
        results[index] = combine(results.get(index), outcome)
    return None


async def _room(lane: Lane) -> None:
    """Until the connection that was given up for this one is gone: the next hop may count strictly."""
    links = lane.links
    while links.total > lane.policy.concurrency and links.closing:
        await next(iter(links.closing)).wait_closed()


async def _turn(lane: Lane, link: Link, recipients: int) -> None:
    """Another message at this host: it waits for the rate as all do. `link` is closed if the relay stops, or
    if that would take long."""
    seconds: float | None = 0.0
    if lane.throttle is not None:
        seconds = lane.throttle.reserve(transactions(recipients))
        if seconds:
            await _unless_stopped(lane, asyncio.sleep(seconds))
    if (seconds is None or lane.tools.stopping) and not link.closed:
        link.close()


async def _unless_stopped(lane: Lane, work: Coroutine[Any, Any, _T]) -> _T | None:
    """What `work` returns, within the time budget; None when the relay stops meanwhile."""
    opening = lane.tools.opening
    task = asyncio.get_running_loop().create_task(asyncio.wait_for(work, BUDGET))
    opening.add(task)
    try:
        return await task
    except asyncio.CancelledError:
        if lane.tools.stopping and task.cancelled():
            return None
        task.cancel()
        raise
    finally:
        opening.discard(task)


async def _carry(lane: Lane, attempt: Attempt, link: Link) -> Verdict:
    """Run the job on a connection of its own."""
    tools = lane.tools
    tools.events.connection_opened(lane.policy.route)
    attempt.waiter = asyncio.get_running_loop().create_future()
    lane.links.busy[link] = attempt
    lane.links.abroad -= 1
    try:
        link.start(attempt.job, lane.carrier.done)
        return await attempt.waiter
    finally:
        lane.links.busy.pop(link, None)
        lane.links.abroad += 1
        if not link.closed:
            link.close()
        lane.links.leaves(link)
        tools.events.connection_closed(lane.policy.route)
