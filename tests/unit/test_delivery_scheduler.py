"""The scheduler with a queue and a next hop in memory: what is taken when, turns, bounds, connections."""

from __future__ import annotations

import asyncio

import pytest
from fakes.delivery import FakeTable, refused
from fakes.delivery_world import LANE, World

from relay.config.model import Config, Delivery
from relay.delivery.tools import Bounds


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


async def test_what_was_taken_is_sent_also_when_the_queue_cannot_say_what_comes_next() -> None:
    world = World()
    world.hop.down = refused()
    numbers = [world.queue.submit(LANE) for _ in range(3)]
    await world.settle_down()
    world.hop.down = None
    world.clock.advance(6)
    world.scheduler.sweep()
    await world.settle_down(1)  # the probe has begun
    world.queue.blind = True
    await world.settle_down()
    assert (sorted(world.hop.order), world.held) == (numbers, 0)
    assert world.scheduler.lanes[LANE].due_at > world.clock.monotonic()  # asked again then


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
