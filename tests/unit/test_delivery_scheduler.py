"""The scheduler with a queue and a next hop in memory: what is taken when, suspension and resumption, expiry,
stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from fakes.clock import FakeClock
from fakes.delivery import (
    FakeEvents,
    FakeHop,
    FakeQueue,
    FakeReporter,
    FakeResolver,
    FakeTable,
    refused,
    said,
)

from relay.config.model import Config, Delivery, Retry
from relay.delivery.job import Kind, Verdict
from relay.delivery.scheduler import Scheduler
from relay.delivery.tools import Bounds
from relay.outcome import Deferred
from relay.reply import Reply
from relay.routing.hosts import DnsDeferred, DnsFailed

LANE = "mx:example.org"
DAY = 86400.0


@dataclass
class World:
    """A scheduler and its neighbours."""

    config: Config = field(default_factory=Config)
    table: FakeTable = field(default_factory=FakeTable)
    resolver: FakeResolver = field(default_factory=FakeResolver)
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.queue = FakeQueue(self.clock)
        self.hop = FakeHop()
        self.events = FakeEvents()
        self.reporter = FakeReporter()
        self.scheduler = Scheduler(
            self.config, self.queue, self.table, self.resolver, self.events, self.clock, Random(1),
            opener=self.hop.open, reporter=self.reporter, bounds=self.bounds,
        )  # fmt: skip
        self.scheduler.start()

    async def settle_down(self, rounds: int = 30) -> None:
        """Let everything that needs no time happen."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            self.scheduler.sweep()
            await self.settle_down(6)

    @property
    def held(self) -> int:
        return self.scheduler.tools.settling.held

    def state(self, lane: str = LANE) -> dict[str, object]:
        return self.scheduler.lane_state(lane)


async def test_fresh_mail_goes_straight_from_the_commit_to_the_next_hop() -> None:
    world = World()
    for _ in range(50):
        world.queue.submit(LANE)
    await world.settle_down(200)
    assert len(world.hop.arrived) == 50
    assert not world.queue.rows
    assert not world.queue.takes
    assert world.held == 0
    assert world.events.count("removed") == 50


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


async def test_fresh_mail_gets_turns_during_a_drain() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    for _ in range(500):
        world.queue.submit(LANE)
    world.hop.down = None
    world.hop.hold = True
    await world.pass_time(6)
    waited: dict[int, int] = {}
    for _ in range(20):
        before = len(world.hop.order)
        fresh = world.queue.submit(LANE)
        while fresh not in world.hop.order:
            world.hop.answer()
            await world.settle_down(4)
        waited[fresh] = len(world.hop.order) - before
    assert max(waited.values()) <= 2
    assert len(world.hop.arrived) >= 20


async def test_a_backlog_gets_turns_while_fresh_mail_keeps_coming() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.hop.down = refused()
    old = [world.queue.submit(LANE) for _ in range(20)]
    await world.settle_down()
    world.hop.down = None
    world.hop.hold = True
    await world.pass_time(6)
    for _ in range(60):
        world.queue.submit(LANE)
        world.hop.answer()
        await world.settle_down(4)
    assert set(old) <= set(world.hop.order)


async def test_what_is_in_hand_is_bounded() -> None:
    world = World(bounds=Bounds(held=300, held_most=320, lanes=40))
    world.hop.hold = True
    for number in range(60):
        for _ in range(30):
            world.queue.submit(f"mx:d{number}.example")
    await world.pass_time(5)
    assert world.held <= 320
    assert world.queue.leased <= 320
    assert len(world.scheduler.lanes) <= 40
    world.hop.hold = False
    world.hop.answer(1000)
    await world.settle_down(100)
    for _ in range(100):
        await world.pass_time(1)
        if not world.queue.rows:
            break
    assert len(world.hop.arrived) == 1800
    assert world.held == 0


async def test_a_lane_holds_at_most_five_entries_for_each_connection() -> None:
    world = World(table=FakeTable(concurrency=4))
    world.hop.hold = True
    for _ in range(500):
        world.queue.submit(LANE)
    await world.pass_time(3)
    lane = world.scheduler.lanes[LANE]
    assert len(lane.links.busy) == 4
    assert 15 <= len(lane.fresh) <= 20
    assert 0 < len(lane.waiting) <= 20


async def test_content_that_waits_in_memory_is_bounded() -> None:
    world = World(bounds=Bounds(memory=1000))
    world.hop.hold = True
    for _ in range(60):
        world.queue.submit(LANE, content=b"x" * 98 + b"\r\n")
    kept = [lease for lease in world.scheduler.lanes[LANE].fresh if lease.entry.content is not None]
    assert len(kept) == 10
    world.hop.hold = False
    await world.settle_down()
    world.hop.answer(100)
    await world.settle_down(200)
    assert len(world.hop.arrived) == 60
    assert world.scheduler.tools.memory == 0


async def test_connections_open_one_first_then_grow_while_work_waits() -> None:
    world = World()
    world.hop.gate = asyncio.Event()
    for _ in range(100):
        world.queue.submit(LANE)
    await world.settle_down()
    assert world.hop.opens == 1
    world.hop.gate.set()
    world.hop.hold = True
    await world.settle_down()
    assert len(world.hop.links) == 5
    world.hop.answer(10)
    await world.settle_down()
    assert 5 < len(world.hop.links) <= 20


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


async def test_connections_of_all_lanes_together_are_limited_and_shared() -> None:
    world = World(config=Config(delivery=Delivery(connections=3)), table=FakeTable(per_connection=10))
    for _ in range(30):
        for number in range(8):
            world.queue.submit(f"mx:d{number}.example")
    await world.settle_down(2000)
    assert len(world.hop.arrived) == 240
    assert world.hop.most <= 3


async def test_an_idle_connection_is_kept_for_a_while_then_closed_and_the_lane_forgotten() -> None:
    world = World()
    world.queue.submit(LANE)
    await world.settle_down()
    await world.pass_time(9)
    world.queue.submit(LANE)
    await world.settle_down()
    assert (world.hop.opens, world.events.count("connection_reused")) == (1, 1)
    await world.pass_time(11)
    assert world.hop.links == []
    assert world.scheduler.lanes == {}
    assert LANE not in world.queue.claimed
    assert world.scheduler.tools.pool.taken == 0


async def test_a_connection_carries_so_many_messages_and_no_more() -> None:
    world = World(table=FakeTable(concurrency=1, per_connection=10))
    for _ in range(35):
        world.queue.submit(LANE)
    await world.settle_down(400)
    await world.pass_time(1)
    assert len(world.hop.arrived) == 35
    assert world.hop.opens == 4


async def test_three_recipients_three_fates_one_report_and_only_the_deferred_one_stays() -> None:
    world = World()
    world.hop.answers = {
        "a@example.org": [said(250, "ok")],
        "b@example.org": [said(451, "4.7.1 later"), said(250, "ok")],
        "c@example.org": [said(550, "5.1.1 no such user")],
    }
    world.queue.submit(LANE, "a@example.org", "b@example.org", "c@example.org")
    await world.settle_down()
    assert world.reporter.written == [("failed", ["c@example.org"], b"hello\r\n")]
    _, remaining, keywords = world.queue.settled[0]
    assert [recipient.address for recipient in remaining] == ["b@example.org"]
    assert "451" in remaining[0].reply
    assert (keywords["counted"], len(keywords["reports"])) == (True, 1)
    assert 48 <= keywords["due"] - world.clock.time() <= 72
    await world.pass_time(80)
    assert sorted(world.hop.arrived) == ["a@example.org", "b@example.org"]
    assert not world.queue.rows
    assert world.events.count("dsn") == 0 and len(world.queue.reports) == 1


async def test_an_ambiguous_end_waits_ten_minutes_and_is_told() -> None:
    world = World()
    lost = Deferred(Reply(0, "4.4.2", "connection lost"), "hop.example", "dot", ambiguous=True)
    world.hop.answers = {"to@example.org": [lost]}
    world.queue.submit(LANE)
    await world.settle_down()
    assert world.queue.settled[0][2]["due"] >= world.clock.time() + 600
    assert world.events.count("ambiguous") == 1


async def test_deferred_at_the_first_host_is_tried_at_the_second_in_the_same_attempt() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example", "mx3.example"))
    world.hop.answers = {
        "b@example.org mx1.example": [said(451, "later")],
        "b@example.org mx2.example": [said(451, "later here too")],
    }
    world.queue.submit(LANE, "a@example.org", "b@example.org")
    await world.settle_down()
    assert world.hop.by_host == {"mx1.example": 1, "mx2.example": 1}  # two sessions, not three
    entry, remaining, _ = world.queue.settled[0]
    assert [recipient.address for recipient in remaining] == ["b@example.org"]
    assert "later here too" in remaining[0].reply
    assert world.hop.arrived == ["a@example.org"]
    assert world.events.count("attempted") == 1
    assert world.scheduler.tools.pool.taken == 1
    assert entry.attempts == 0


async def test_a_bad_address_is_tried_last_for_a_while() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example"), table=FakeTable(per_connection=1))
    world.hop.dead.add("mx1.example")
    for _ in range(10):
        world.queue.submit(LANE)
    await world.settle_down(300)
    assert len(world.hop.arrived) == 10
    assert world.hop.by_host == {"mx1.example": 1, "mx2.example": 10}


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


async def test_remembered_suspensions_are_bounded_and_the_rest_waits_for_its_probe_on_disk() -> None:
    world = World(bounds=Bounds(suspended=5))
    world.hop.down = refused()
    for number in range(8):
        world.queue.submit(f"mx:d{number}.example")
    await world.settle_down()
    assert len(world.scheduler.suspended.records) == 5
    assert len(world.queue.claimed) == 5
    assert world.queue.not_before["mx:d0.example"] > world.clock.time()
    world.hop.down = None
    await world.pass_time(30)
    assert len(world.hop.arrived) == 8


async def test_expiry_of_a_suspended_lane_needs_age_and_probes() -> None:
    world = World(config=Config(retry=Retry(give_up=3600.0)))  # the schedule provides 5 attempts: 3 probes
    world.hop.down = refused()
    old = world.queue.submit(LANE)
    await world.settle_down()
    world.clock.jump(2 * 3600)  # the clock lies
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


async def test_expiry_of_a_suspended_lane_is_complete_in_bounded_chunks() -> None:
    world = World(config=Config(retry=Retry(give_up=60.0)))
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    for _ in range(449):
        world.queue.submit(LANE)
    world.clock.jump(61)
    await world.pass_time(40)
    assert not world.queue.rows
    assert max(n for _, n, older in world.queue.takes if older) <= 100
    assert world.held == 0


async def test_an_entry_that_is_old_and_tried_often_enough_expires_with_its_last_reply() -> None:
    world = World(config=Config(retry=Retry(give_up=600.0)))  # provides 3 attempts
    world.hop.answers = {"to@example.org": [said(451, "4.2.2 mailbox full")]}
    world.queue.submit(LANE)
    await world.settle_down()
    world.clock.jump(5 * DAY)
    await world.pass_time(2)  # its second attempt, over time
    assert world.reporter.written == [("failed", ["to@example.org"], b"hello\r\n")]
    assert not world.queue.rows


async def test_a_route_fault_suspends_the_lane_and_counts_no_attempt() -> None:
    world = World()
    world.hop.hold = True
    for _ in range(5):
        world.queue.submit(LANE)
    await world.settle_down()
    link = world.hop.busy.pop(0)
    assert link.job is not None
    link.job.results[0] = said(451, "authentication required", "mail")
    link.finish(Verdict(lane="auth"))
    assert world.state()["reason"] == "auth"
    world.hop.hold = False
    world.hop.answer(10)
    await world.settle_down()
    assert world.held == 0
    assert world.events.count("lane_suspended") == 1
    assert len(world.hop.arrived) == 4  # what was under way on the other connections
    (row,) = world.queue.rows.values()
    assert row.entry.attempts == 0


async def test_stop_gives_back_what_is_not_past_the_dot_and_lets_the_rest_finish() -> None:
    world = World(table=FakeTable(concurrency=3))
    world.hop.hold = True
    for _ in range(40):
        world.queue.submit(LANE)
    await world.settle_down()
    assert len(world.hop.busy) == 3
    past = world.hop.busy[0]
    past.past_dot = True
    stopping = asyncio.ensure_future(world.scheduler.stop(5.0))
    await world.settle_down()
    assert not stopping.done()
    world.hop.answer(1)
    await asyncio.wait_for(stopping, 5)
    assert len(world.hop.arrived) == 1
    assert world.queue.leased == 0
    assert len(world.queue.rows) == 39
    assert {row.entry.attempts for row in world.queue.rows.values()} == {0}
    assert world.hop.links == []
    late = world.queue.submit(LANE)
    await world.settle_down()
    assert late in world.queue.rows and world.queue.leased == 0


async def test_stop_cuts_what_is_past_the_dot_at_the_deadline_and_says_ambiguous() -> None:
    world = World()
    world.hop.hold = True
    world.queue.submit(LANE)
    await world.settle_down()
    world.hop.busy[0].past_dot = True
    await asyncio.wait_for(world.scheduler.stop(0.05), 5)
    _, remaining, keywords = world.queue.settled[0]
    assert (len(remaining), keywords["counted"]) == (1, True)
    assert keywords["due"] >= world.clock.time() + 600
    assert world.events.count("ambiguous") == 1


async def test_stop_during_an_opening_leaves_nothing_open() -> None:
    world = World()
    world.hop.gate = asyncio.Event()
    world.queue.submit(LANE)
    await world.settle_down()
    await asyncio.wait_for(world.scheduler.stop(1.0), 5)
    assert world.hop.links == []
    assert world.scheduler.tools.pool.taken == 0
    assert world.queue.leased == 0


async def test_after_a_reload_entries_move_to_the_lane_they_now_belong_to() -> None:
    world = World()
    world.hop.down = refused()
    for _ in range(30):
        world.queue.submit(LANE)
    await world.settle_down()
    other = FakeTable()
    other.routes = {"example.org": "mx:smart.example"}
    other.gone = {LANE}
    world.hop.down = None
    world.scheduler.reload(Config(), other, world.resolver)
    await world.pass_time(1)  # a reload probes at once
    await world.settle_down(100)
    assert len(world.hop.arrived) == 30
    moved = [keywords for _, _, keywords in world.queue.settled if keywords["lane"]]
    assert {(move["lane"], move["counted"]) for move in moved} == {("mx:smart.example", False)}


async def test_recipients_whose_ways_part_after_a_reload_are_each_sent_their_own_way() -> None:
    world = World()
    world.hop.down = refused()
    world.queue.submit(LANE, "a@example.org", "b@example.org", "c@other.example")
    await world.settle_down()
    world.hop.down = None
    world.hop.answers = {"b@example.org": [said(451, "later"), said(250, "ok")]}
    await world.pass_time(1000)
    assert sorted(world.hop.arrived) == ["a@example.org", "b@example.org", "c@other.example"]
    assert {(lane, address) for lane, addresses in world.hop.sent for address in addresses} == {
        (LANE, "a@example.org"), (LANE, "b@example.org"), ("mx:other.example", "c@other.example"),
    }  # fmt: skip
    assert not world.queue.rows


async def test_a_bug_of_ours_defers_the_entry_and_the_lane_goes_on() -> None:
    world = World()
    world.queue.unreadable.add(2)
    world.hop.down = refused()
    for _ in range(3):
        world.queue.submit(LANE)
    await world.settle_down()
    world.hop.down = None
    await world.pass_time(10)
    assert len(world.hop.arrived) == 2
    assert world.events.count("bug") == 1
    assert (list(world.queue.rows), world.held) == ([2], 0)
    assert world.queue.rows[2].entry.attempts == 1
    world.queue.unreadable.clear()
    await world.pass_time(90)
    assert len(world.hop.arrived) == 3


async def test_a_report_that_cannot_be_made_ends_nobody() -> None:
    world = World()
    world.reporter.error = RuntimeError("a bug")
    world.hop.answers = {"to@example.org": [said(550, "no")]}
    number = world.queue.submit(LANE)
    await world.settle_down()
    assert world.queue.rows[number].entry.attempts == 1
    assert world.events.count("bug") == 1
    world.reporter.error = None
    await world.pass_time(90)
    assert len(world.queue.reports) == 1
    assert not world.queue.rows


async def test_an_attempt_that_never_ends_is_ended_by_the_watchdog() -> None:
    world = World()
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    world.clock.advance(3700)
    world.hop.busy[0].past_dot = True
    world.scheduler.sweep()
    await world.settle_down()
    assert world.events.count("bug") == 1
    assert world.queue.rows[number].entry.attempts == 1
    assert world.queue.rows[number].due >= world.clock.time() + 600  # the peer may have it
    assert (world.held, world.hop.links) == (0, [])


async def test_a_dead_kept_connection_is_not_an_attempt() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.queue.submit(LANE)
    await world.settle_down()
    world.hop.hold = True
    world.queue.submit(LANE)
    link = world.hop.busy.pop()
    world.hop.hold = False
    world.hop.links.remove(link)
    link.finish(Verdict(Kind.FRESH), closed=True)
    await world.settle_down()
    assert len(world.hop.arrived) == 2
    assert (world.events.count("retried_fresh"), world.events.count("attempted")) == (1, 2)


async def test_damaged_content_is_put_aside_and_not_sent() -> None:
    world = World()
    world.hop.hold = True
    world.queue.submit(LANE)
    await world.settle_down()
    link = world.hop.busy.pop()
    world.hop.links.remove(link)
    link.finish(Verdict(Kind.CORRUPT, text="checksum differs"), closed=True)
    assert (world.queue.quarantined, world.held) == (["checksum differs"], 0)


@pytest.mark.parametrize("lose", [True, False])
async def test_an_idle_connection_that_the_peer_ends_is_forgotten(lose: bool) -> None:
    world = World()
    world.queue.submit(LANE)
    await world.settle_down()
    if lose:
        world.hop.links[0].lose()
        assert world.scheduler.tools.pool.taken == 0
    world.queue.submit(LANE)
    await world.settle_down()
    assert world.hop.opens == 1 + lose
    assert len(world.hop.arrived) == 2


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


async def test_a_connection_opened_under_an_older_configuration_is_not_used() -> None:
    world = World()
    world.hop.gate = asyncio.Event()
    world.queue.submit(LANE)
    await world.settle_down()
    world.scheduler.reload(Config(), FakeTable(), world.resolver)
    world.hop.gate.set()
    await world.settle_down()
    assert (world.hop.opens, len(world.hop.links), len(world.hop.arrived)) == (2, 1, 1)
    assert world.scheduler.tools.pool.taken == 1


async def test_kept_connections_of_an_older_configuration_are_not_used_again() -> None:
    world = World()
    world.hop.hold = True
    world.queue.submit(LANE)
    await world.settle_down()
    old = world.hop.links[0]
    world.scheduler.reload(Config(), FakeTable(), world.resolver)
    world.hop.answer()
    assert old.closed
    assert len(world.hop.arrived) == 1


async def test_an_admission_whose_write_was_rolled_back_counts_no_more() -> None:
    world = World(table=FakeTable(concurrency=1))
    for _ in range(50):
        assert world.queue.admit(LANE)
        world.queue.unadmit(LANE)
    while world.queue.admit(LANE):
        pass
    assert world.scheduler.lanes[LANE].promised == 5


async def test_many_lanes_turn_over_quickly() -> None:
    world = World(bounds=Bounds(lanes=20))
    for number in range(200):
        world.queue.submit(f"mx:d{number}.example")
    await world.pass_time(15)
    assert len(world.hop.arrived) == 200
    assert world.scheduler.tools.pool.taken <= 20


async def test_a_bug_in_one_lane_does_not_stop_the_others() -> None:
    world = World()
    world.hop.hold = True
    world.queue.submit("mx:bad.example")
    world.queue.submit(LANE)
    await world.settle_down()
    world.scheduler.lanes["mx:bad.example"].links.busy = None  # type: ignore[assignment]
    world.hop.answers = {"to@example.org": [said(451, "later"), said(250, "ok")]}
    world.hop.hold = False
    world.hop._answer(world.hop.busy[1])
    await world.pass_time(80)
    assert world.hop.arrived == ["to@example.org"]
    assert world.events.count("bug") > 0


def captured(directory: Path) -> int:
    return len(list(directory.glob("*.eml")))


async def test_a_capture_directory_is_a_next_hop_like_any_other(tmp_path: Path) -> None:
    world = World(table=FakeTable(concurrency=2))
    world.table.capture = tmp_path
    for _ in range(6):
        world.queue.submit(LANE, options="NOTIFY=SUCCESS")
    for _ in range(500):
        await asyncio.sleep(0.002)
        if not world.queue.rows:
            break
    assert captured(tmp_path) == 6
    assert [kind for kind, _, _ in world.reporter.written] == ["relayed"] * 6
    assert world.hop.opens == 0


async def test_what_becomes_due_on_disk_is_taken_by_a_lane_that_is_never_idle() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.hop.down = refused()
    old = world.queue.submit(LANE)
    await world.settle_down()
    world.queue.rows[old].due = world.clock.time() + 30  # as a retry found at the start would be
    world.hop.down = None
    for _ in range(70):
        await world.pass_time(0.5)
        world.queue.submit(LANE)
    assert old not in world.queue.rows


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


async def test_the_connection_used_last_is_used_first() -> None:
    world = World()
    world.hop.hold = True
    for _ in range(2):
        world.queue.submit(LANE)
    await world.settle_down()
    first, second = world.hop.busy
    world.hop.answer()
    world.hop.answer()
    world.queue.submit(LANE)
    assert world.hop.busy == [second]
    assert first.idle


async def test_a_busy_lane_yields_a_connection_to_a_lane_that_has_none() -> None:
    world = World(config=Config(delivery=Delivery(connections=2)))
    world.hop.hold = True
    for _ in range(30):
        world.queue.submit(LANE)
    await world.settle_down()
    world.hop.answer()
    await world.settle_down()
    assert len(world.hop.busy) == 2
    world.queue.submit("mx:other.example")
    await world.settle_down()
    assert world.hop.most == 2
    world.hop.answer()
    await world.settle_down()
    assert sorted(link.job.entry.lane for link in world.hop.busy if link.job) == [LANE, "mx:other.example"]


async def test_a_recipient_without_a_result_is_deferred_not_lost() -> None:
    world = World()
    world.hop.hold = True
    number = world.queue.submit(LANE, "a@example.org", "b@example.org")
    await world.settle_down()
    link = world.hop.busy.pop()
    assert link.job is not None
    link.job.results[0] = said(250, "ok")
    link.finish(Verdict())
    assert [recipient.address for recipient in world.queue.rows[number].entry.recipients] == ["b@example.org"]


async def test_an_old_probe_time_of_a_lane_means_nothing() -> None:
    world = World()
    world.hop.down = refused()
    world.queue.submit(LANE)
    await world.settle_down()
    world.scheduler.suspended._due.insert(0, (world.clock.monotonic() - 1, LANE))
    await world.pass_time(1)
    assert world.hop.opens == 1


async def test_what_is_leased_while_we_stop_is_given_back() -> None:
    world = World()
    admit = world.queue.admit
    assert admit(LANE)
    await world.scheduler.stop(0.1)
    world.queue.admit = lambda lane: True  # the write had begun before
    world.queue.submit(LANE)
    assert (world.queue.leased, world.held, world.hop.opens) == (0, 0, 0)


async def test_stop_reaches_what_a_suspended_lane_still_sends() -> None:
    world = World()
    world.hop.hold = True
    for _ in range(3):
        world.queue.submit(LANE)
    await world.settle_down()
    link = world.hop.busy.pop(0)
    assert link.job is not None
    link.job.results[0] = said(451, "authentication required", "mail")
    link.finish(Verdict(lane="auth"))
    assert world.scheduler.lanes == {}
    assert world.queue.leased > 0
    await asyncio.wait_for(world.scheduler.stop(1.0), 5)
    assert world.queue.leased == 0
    assert {row.entry.attempts for row in world.queue.rows.values()} == {0}


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


async def test_the_watchdog_knows_that_a_peer_may_have_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    (link,) = world.hop.busy
    link.past_dot = True
    monkeypatch.setattr(link, "abort", link._end)  # it does not even say that it ended
    world.clock.advance(3700)
    world.scheduler.sweep()
    assert world.events.count("ambiguous") == 1
    assert world.queue.rows[number].due >= world.clock.time() + 600
