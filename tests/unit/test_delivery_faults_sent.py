"""Faults met in a transaction: 530, 534, 535, 538 to MAIL and the like, and what ends them."""

from __future__ import annotations

import asyncio

import pytest
from fakes.delivery import said
from fakes.delivery_route import LANE, A, B, hosts_at_fault, refusal, world

from relay.config.model import Retry
from relay.delivery.job import Verdict
from relay.outcome import Deferred
from relay.reply import Reply


@pytest.mark.parametrize("elsewhere", [[0], []])
@pytest.mark.parametrize("code", [530, 535])
async def test_a_refusal_in_a_transaction_is_a_fault_of_that_host(code: int, elsewhere: list[int]) -> None:
    """Row "any": the message goes by the other host, the lane is not suspended, no attempt counts; an opening
    alone does not end it."""
    here = world(A, B)
    here.hop.hold = True
    await here.settle_down()
    (link,) = here.hop.busy
    assert link.target.name == A and link.job is not None
    link.job.results[0] = Deferred(Reply(code, "4.7.8", "log in first"), link.host, "mail")
    here.hop.busy.clear()
    here.hop.hold = False
    link.finish(Verdict(elsewhere=elsewhere, lane="auth"))
    await here.settle_down()
    assert len(here.hop.arrived) == 1
    assert {link.target.name for link in here.hop.links} <= {B}
    assert hosts_at_fault(here) == [A]
    assert here.events.count("lane_suspended") == 0
    await here.pass_time(30)
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.by_host[A] == 1
    await here.pass_time(31)
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.by_host[A] == 2
    assert hosts_at_fault(here) == []
    assert len(here.hop.arrived) == 3


async def test_an_opening_does_not_end_what_a_transaction_met() -> None:
    """530 to every MAIL: one fault with growing waits, not one after the other."""
    here = world(A)
    here.hop.hold = True
    for _ in range(1000):
        await here.pass_time(1)
        for link in here.hop.busy[:]:
            here.hop.busy.remove(link)
            assert link.job is not None
            link.job.results[0] = Deferred(Reply(530, "4.7.8", "log in first"), link.host, "mail")
            link.finish(Verdict(elsewhere=[0], lane="auth"))
            await here.settle_down()
    assert here.hop.opens == 5  # at 0, 60, 180, 420 and 720 s
    assert (here.events.count("route_fault"), here.events.count("route_fault_ended")) == (1, 0)
    assert not here.reporter.written


async def test_a_probe_is_no_connection_too_many() -> None:
    """The concurrency of a route is a hard limit, also while a host at fault is due."""
    here = world(A, B, concurrency=1)
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    here.hop.hold = True
    here.queue.submit(LANE)
    await here.settle_down()
    assert len(here.hop.busy) == 1
    await here.pass_time(130)
    assert here.hop.by_host[A] == 1
    here.hop.answer()
    await here.pass_time(12)
    assert here.hop.by_host[A] == 2
    assert here.hop.most == 1


async def test_a_probe_counts_for_a_lane_that_comes_meanwhile() -> None:
    """Nobody sent anything when it began."""
    here = world(A, B, concurrency=1)
    here.hop.faulty[A] = refusal(A)
    await here.pass_time(30)
    assert not here.scheduler.lanes
    here.hop.gate = asyncio.Event()
    await here.pass_time(31)
    assert here.hop.by_host[A] == 2
    here.queue.submit(LANE)
    await here.pass_time(2)
    assert here.hop.opens == 3
    here.hop.faulty.clear()
    here.hop.slow_quit = True
    here.hop.gate.set()
    await here.pass_time(2)
    assert len(here.hop.quitting) == 1
    assert here.hop.opens == 3
    here.hop.slow_quit = False
    here.hop.quitting[0].gone()
    await here.settle_down()
    assert len(here.hop.arrived) == 2
    assert here.scheduler.lanes[LANE].links.total == len(here.hop.links) == here.hop.most == 1
    await here.pass_time(60)
    assert not here.scheduler.lanes and here.scheduler.tools.pool.taken == 0


async def test_a_host_at_fault_may_have_what_the_others_lack() -> None:
    """Row capability, in a detour: with one host at fault nobody can say that no host offers it."""
    here = world(A, B, "c.example")
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    here.hop.hold = True
    here.queue.submit(LANE, "to@example.org")
    await here.settle_down()
    for _ in range(2):
        (link,) = here.hop.busy
        here.hop.busy.clear()
        assert link.job is not None
        link.job.results[0] = said(550, "needs SMTPUTF8", "capability", link.target.name)
        link.finish(Verdict(elsewhere=[0]))
        await here.settle_down()
        if not here.hop.busy:
            break
    (row,) = here.queue.rows.values()
    assert row.entry.attempts == 1
    assert not here.queue.reports


async def test_what_was_under_way_does_not_end_a_fault() -> None:
    """A transaction that began before the refusal says nothing about the login since: without this, a host
    that takes some mail and refuses other would be asked without a pause."""
    here = world(A)
    here.hop.hold = True
    for _ in range(5):
        here.queue.submit(LANE)
    await here.settle_down()
    refused, good = here.hop.busy[:2]
    assert (refused.messages, good.messages) == (0, 0)
    opens = here.hop.opens
    assert refused.job is not None
    refused.job.results[0] = Deferred(Reply(530, "4.7.8", "no"), refused.host, "mail")
    here.hop.busy.remove(refused)
    refused.finish(Verdict(lane="auth"))
    assert good.job is not None
    here.hop.answer(len(here.hop.busy))
    await here.settle_down()
    assert hosts_at_fault(here) == [A]
    assert here.state(LANE)["state"] == "suspended"
    await here.pass_time(58)
    assert here.hop.opens == opens


BAD = "bad@example.org"


@pytest.mark.parametrize(("hosts", "dead"), [((A,), False), ((A, B), False), ((A, B), True)])
async def test_one_message_that_is_always_refused_does_not_hold_the_others(
    hosts: tuple[str, ...], dead: bool
) -> None:
    """The next probe is made with another message; where that one gets through, the refusal was of the first:
    it has its own attempts, and expires by itself."""
    here = world(*hosts, retry=Retry(give_up=7200.0))
    here.hop.dead = {B} if dead else set()
    first = f"to@{LANE[3:]}"
    here.hop.answers[first] = [said(530, "log in first", "mail")]
    late = 0
    for minute in range(240):
        if minute % 2:
            here.queue.submit(LANE, "good@example.org")
        await here.pass_time(60, 1.0)
        late = max(late, len(here.queue.rows) - 1)
    assert late <= 3
    assert len(here.hop.arrived) >= 118
    assert len(here.queue.rows) <= 1
    assert [(kind, names) for kind, names, _ in here.reporter.written] == [("failed", [first])]


async def test_many_messages_that_are_refused_do_not_hold_the_others() -> None:
    """A host that lets in what it knows and wants a login for the rest."""
    here = world(A)
    here.hop.answers[BAD] = [said(530, "log in first", "rcpt")]
    for _ in range(300):
        here.queue.submit(LANE, BAD)
        here.queue.submit(LANE)
    await here.pass_time(120)
    await here.settle_down(1000)
    assert len(here.hop.arrived) == 301
    assert here.events.count("route_fault") <= 2
    assert sum(row.entry.attempts > 0 for row in here.queue.rows.values()) >= 298


async def test_a_host_that_takes_one_recipient_has_no_fault() -> None:
    here = world(A)
    await here.settle_down()
    await here.pass_time(30)
    here.hop.answers[BAD] = [said(530, "log in first", "rcpt")]
    here.queue.submit(LANE, BAD, "good@example.org")
    await here.settle_down()
    assert (here.hop.opens, hosts_at_fault(here)) == (2, [])
    assert here.state(LANE)["state"] == "healthy"
    (row,) = here.queue.rows.values()
    assert ([each.address for each in row.entry.recipients], row.entry.attempts) == ([BAD], 1)


async def test_a_host_that_takes_no_mail_any_more_is_at_fault_after_some() -> None:
    """Sessions that worked before excuse a few refusals, not all."""
    here = world(A)
    await here.settle_down()
    here.hop.answers[f"to@{LANE[3:]}"] = [said(530, "log in first", "mail")]
    for _ in range(100):
        here.queue.submit(LANE)
    await here.settle_down(300)
    assert hosts_at_fault(here) == [A]
    assert here.state(LANE)["state"] == "suspended"
    assert sum(row.entry.attempts for row in here.queue.rows.values()) <= 10


async def test_refusals_that_are_not_in_a_row_are_not_added_up() -> None:
    here = world(A)
    here.hop.answers[BAD] = [said(530, "log in first", "mail")]
    for _ in range(30):
        here.queue.submit(LANE)
        await here.settle_down()
        here.queue.submit(LANE, BAD)
        await here.settle_down()
    assert (hosts_at_fault(here), len(here.hop.arrived)) == ([], 31)


async def test_a_message_that_no_host_took_is_not_forgotten_by_a_busy_lane() -> None:
    """A refuses it, B cannot be reached; then B is back, and there is always fresh mail."""
    here = world(A, B)
    here.hop.dead = {B}
    first = f"to@{LANE[3:]}"
    here.hop.answers[f"{first} {A}"] = [said(530, "log in first", "mail")]
    await here.settle_down()
    assert here.hop.by_host == {A: 1, B: 1}
    here.hop.dead = set()
    for _ in range(30):
        here.queue.submit(LANE, "good@example.org")
        await here.pass_time(0.5)
    assert here.events.count("lane_suspended") == 0
    assert first in here.hop.arrived
