"""Lanes in trouble: suspension, probes, the ramp, DNS, expiry of what waits (promise 11)."""

from __future__ import annotations

import pytest
from fakes.delivery import FakeTable, refused, said
from fakes.delivery_world import LANE, World

from relay.config.model import Config, Retry
from relay.delivery.health import Trouble
from relay.delivery.job import Verdict
from relay.outcome import Deferred
from relay.reply import Reply
from relay.routing.hosts import DnsDeferred, DnsFailed

DAY = 86400.0


async def test_twenty_thousand_wait_untried_while_the_next_hop_is_down_and_all_leave_when_it_is_back() -> (
    None
):
    world = World()
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    assert world.state()["state"] == "suspended"
    for _ in range(20_000):
        world.queue.submit(LANE)
    await world.pass_time(300)
    assert world.hop.opens <= 9  # one probe each time: 5 + 10 + 20 + 40 + ...
    assert world.held == 0
    assert world.queue.leased == 0
    assert all(row.entry.attempts == 0 for row in world.queue.rows.values())
    assert world.events.count("attempted") == 0
    world.hop.down = None
    await world.pass_time(310)
    await world.settle_down(20_000)
    assert len(world.hop.arrived) == 20_001
    assert world.events.count("lane_resumed") == 1
    assert world.hop.most <= 20


async def test_a_host_with_few_places_gets_few_connections_and_is_not_suspended() -> None:
    world = World(table=FakeTable(concurrency=20))
    world.hop.full = 3
    for _ in range(90):
        world.queue.submit(LANE)
    await world.settle_down(2000)
    assert len(world.hop.arrived) == 90
    assert world.events.count("lane_suspended") == 0
    assert world.hop.opens <= 8
    assert world.scheduler.lanes[LANE].links.window.size == 3


async def test_dns_that_says_no_fails_each_entry_with_a_report_and_without_a_connection() -> None:
    world = World()
    world.resolver.resolution = DnsFailed(Reply(0, "5.1.2", "no such domain"))
    for _ in range(300):
        world.queue.submit(LANE)
    for _ in range(40):
        await world.pass_time(1)
    assert world.hop.opens == 0
    assert len(world.queue.reports) == 300
    assert not world.queue.rows
    assert world.held == 0
    assert world.events.count("lane_suspended") == 0


async def test_dns_trouble_suspends_the_lane_and_counts_nothing() -> None:
    world = World()
    world.resolver.resolution = DnsDeferred(Reply(0, "4.4.3", "SERVFAIL"), "dns")
    for _ in range(30):
        world.queue.submit(LANE)
    await world.pass_time(60)
    assert world.state()["reason"] == "dns"
    assert {row.entry.attempts for row in world.queue.rows.values()} == {0}
    assert world.held == 0


async def test_a_lane_state_says_why_until_when_and_how_often() -> None:
    world = World()
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.pass_time(17)
    state = world.state()
    assert (state["state"], state["reason"], state["probes"]) == ("suspended", "connect", 2)
    assert "connection refused" in str(state["reply"])
    until = state["until"]
    assert isinstance(until, float)
    assert 0 < until - world.clock.time() <= 20
    assert world.state("mx:other.example")["state"] == "healthy"


async def test_the_probe_of_a_lane_where_nothing_waits_is_not_made() -> None:
    world = World()
    world.hop.down = refused()
    number = world.queue.submit(LANE)
    await world.settle_down()
    del world.queue.rows[number], world.queue.lanes[LANE][number]  # an operator dropped it
    await world.pass_time(10)
    assert world.hop.opens == 1
    assert world.scheduler.suspended.records == {}
    assert LANE not in world.queue.claimed
    assert world.events.count("lane_resumed") == 1


async def test_expiry_of_a_suspended_lane_needs_age_and_probes() -> None:
    world = World(config=Config(retry=Retry(give_up=3600.0)))  # the schedule provides 5 attempts: 3 probes
    world.hop.down = refused()
    old = world.queue.submit(LANE)
    await world.settle_down()
    world.queue.age(2 * 3600)
    young = world.queue.submit(LANE)
    await world.pass_time(16)
    assert world.state()["probes"] == 2
    assert set(world.queue.rows) == {old, young}
    assert not any(older_than for _, _, older_than in world.queue.takes)
    await world.pass_time(21)
    assert world.state()["probes"] == 3
    assert set(world.queue.rows) == {young}
    assert world.reporter.written == [("failed", ["to@example.org"], b"hello\r\n")]
    outcome = world.events.of("attempted")[0][3][0][1]
    assert (outcome.stage, outcome.reply.text) == ("age", "connection refused")
    assert world.events.of("expired")[0][2] == 1


async def test_a_resolver_that_is_down_for_the_whole_life_of_a_message() -> None:
    """Promises 5 and 11: no report before give_up, then one, and it says why; no attempt was counted."""
    world = World()
    why = Reply(0, "4.4.3", "DNS lookup of example.org MX failed: no answer in time from 192.0.2.53:53")
    world.resolver.resolution = DnsDeferred(why, "dns")
    world.queue.submit(LANE)
    hours = 0
    while world.queue.rows and hours < 200:
        assert world.reporter.written == [] and world.events.count("attempted") == 0
        await world.pass_time(3600, step=60)
        hours += 1
    assert 5 * 24 <= hours < 5 * 24 + 3
    assert [action for action, _, _ in world.reporter.written] == ["failed"]
    outcome = world.events.of("attempted")[0][3][0][1]
    assert (outcome.stage, outcome.reply) == ("age", why)
    assert world.hop.opens == 0


async def test_expiry_of_a_suspended_lane_is_complete_in_bounded_chunks() -> None:
    world = World(config=Config(retry=Retry(give_up=60.0)))
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    for _ in range(449):
        world.queue.submit(LANE)
    world.queue.age(61)
    await world.pass_time(40)
    assert not world.queue.rows
    assert max(n for _, n, older in world.queue.takes if older) <= 100
    assert world.held == 0


async def test_an_entry_that_is_old_and_tried_often_enough_expires_with_its_last_reply() -> None:
    world = World(config=Config(retry=Retry(give_up=600.0)))  # provides 3 attempts
    world.hop.answers = {"to@example.org": [said(451, "4.2.2 mailbox full")]}
    world.queue.submit(LANE)
    await world.settle_down()
    world.queue.age(5 * DAY)
    await world.pass_time(75)  # its second attempt, over time
    assert world.reporter.written == [("failed", ["to@example.org"], b"hello\r\n")]
    assert not world.queue.rows


async def test_a_route_fault_suspends_the_lane_and_counts_no_attempt() -> None:
    world = World()
    await world.refuse_the_login_of_one_of(5)
    assert world.state()["reason"] == "auth"
    world.hop.hold = False
    world.hop.answer(10)
    await world.settle_down()
    assert world.held == 0
    assert world.events.count("lane_suspended") == 1
    assert len(world.hop.arrived) == 4  # what was under way on the other connections
    (row,) = world.queue.rows.values()
    assert row.entry.attempts == 0


async def test_a_take_that_fails_is_tried_again_later() -> None:
    world = World()
    world.hop.down = refused()
    for _ in range(3):
        world.queue.submit(LANE)
    await world.settle_down()
    world.hop.down = None
    world.queue.full = True
    await world.pass_time(7)
    assert world.held == 0
    takes = len(world.queue.takes)
    assert takes <= 2
    world.queue.full = False
    await world.pass_time(7)
    assert len(world.hop.arrived) == 3


async def test_a_lane_that_works_again_is_ramped_up_from_one_connection() -> None:
    world = World()
    world.hop.down = refused()
    for _ in range(100):
        world.queue.submit(LANE)
    await world.settle_down()
    world.hop.down = None
    world.hop.hold = True
    await world.pass_time(6)
    sizes = [len(world.hop.links)]
    for _ in range(5):
        world.hop.answer(len(world.hop.busy))
        await world.settle_down()
        sizes.append(len(world.hop.links))
    assert sizes == [1, 2, 4, 8, 16, 20]
    assert world.state()["state"] == "healthy"


async def test_an_old_probe_time_of_a_lane_means_nothing() -> None:
    world = World()
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    world.scheduler.suspended._due.insert(0, (world.clock.monotonic() - 1, LANE))
    await world.pass_time(1)
    assert world.hop.opens == 1


async def test_an_entry_that_cannot_be_read_when_dns_says_no_stays() -> None:
    world = World()
    world.resolver.resolution = DnsFailed(Reply(0, "5.1.2", "no such domain"))
    number = world.queue.submit(LANE)
    world.queue.unreadable.add(number)
    await world.settle_down()
    row = world.queue.rows[number]
    assert (row.leased, row.entry.attempts, world.events.count("bug")) == (False, 1, 1)
    assert "no such domain" in row.entry.recipients[0].reply
    world.queue.unreadable.clear()
    await world.pass_time(80)
    assert len(world.queue.reports) == 1


async def test_a_route_that_refuses_every_first_transaction_is_left_in_peace_and_its_mail_expires() -> None:
    """530 to MAIL: the opening works, so only the transaction can tell that the probe failed."""
    world = World(config=Config(retry=Retry(give_up=3600.0)))  # the schedule provides 5 attempts: 3 probes
    world.hop.hold = True
    world.queue.submit(LANE)

    async def refuse_for(seconds: int) -> None:
        for _ in range(2 * seconds):
            await world.pass_time(0.5)
            for link in world.hop.busy[:]:
                world.hop.busy.remove(link)
                assert link.job is not None
                link.job.results[0] = Deferred(Reply(530, "4.7.8", "log in first"), link.host, "mail")
                link.finish(Verdict(lane="auth"))

    await refuse_for(200)
    assert world.hop.opens <= 8  # 5 + 10 + 20 + 40 + 80 ... seconds apart
    world.queue.age(3600)
    await refuse_for(320)
    assert [kind for kind, *_ in world.reporter.written] == ["failed"]
    assert (world.queue.rows, world.held) == ({}, 0)


async def test_a_probe_for_which_the_queue_cannot_be_read_is_made_later() -> None:
    world = World()
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    world.hop.down = None
    world.queue.blind = True
    await world.pass_time(6)
    assert (world.hop.opens, world.state()["state"]) == (1, "suspended")
    world.queue.blind = False
    await world.pass_time(6)
    assert len(world.hop.arrived) == 1


async def test_what_a_lane_gives_back_late_is_taken_by_the_one_that_has_its_name_now() -> None:
    """The first lane was suspended while it sent something; when that ends the lane is at work again."""
    world = World(table=FakeTable(concurrency=2))
    world.hop.hold = True
    first, second = world.queue.submit(LANE), world.queue.submit(LANE)
    await world.settle_down()
    world.hop.answer()
    await world.settle_down()
    third, fourth = world.queue.submit(LANE), world.queue.submit(LANE)
    await world.settle_down()
    assert world.hop.order == [first, second, third]
    faulty, late = world.hop.busy
    for link in (faulty, late):
        assert link.job is not None
        link.job.results[0] = Deferred(Reply(451, "4.3.0", "no"), link.host, "mail")
    world.hop.busy.clear()
    faulty.finish(Verdict(lane="limit"))
    await world.pass_time(6)
    assert world.state()["state"] == "ramping"
    late.finish(Verdict(lane="limit"))
    await world.settle_down()
    for _ in range(10):
        world.queue.submit(LANE)  # the lane is never quiet
        world.hop.answer(len(world.hop.busy))
        await world.pass_time(0.5)
    assert {first, second, third, fourth} <= set(world.hop.order)
    assert not {second, third, fourth} & set(world.queue.rows)


async def test_a_late_deferral_is_known_to_the_lane_that_has_the_name_now() -> None:
    world = World(table=FakeTable(concurrency=2))
    world.hop.hold = True
    slow = world.queue.submit(LANE)
    await world.settle_down()
    parted = world.scheduler.lanes[LANE]
    parted.trouble(Trouble("auth", Reply(535, "4.7.8", "no")))
    other = world.queue.submit(LANE)
    await world.pass_time(6)
    assert world.hop.order == [slow, other]
    present = world.scheduler.lanes[LANE]
    assert present is not parted
    link = world.hop.busy.pop(0)
    assert link.job is not None
    link.job.results[0] = said(451, "later", "dot")
    link.finish(Verdict())
    due = world.queue.rows[slow].due - world.clock.time()
    assert present.due_at == pytest.approx(world.clock.monotonic() + due)
