"""Many lanes, most of them in trouble: what each costs, and what is left for those that work."""

from __future__ import annotations

import asyncio
import gc

from fakes.delivery import refused
from fakes.delivery_world import World

from relay.config.model import Config, Retry
from relay.delivery.lane import Lane
from relay.delivery.tools import Bounds


async def test_few_lanes_come_into_memory_in_one_turn_of_the_loop() -> None:
    """However many are due, from the disk or for a probe, and however often somebody looked: others have
    theirs."""
    world = World()
    world.hop.down = refused()
    world.queue.admit = lambda lane: False
    for number in range(300):
        world.queue.submit(f"mx:d{number}.example")
    turns = await most_in_a_turn(world)
    assert len(world.scheduler.suspended.records) == 300
    world.clock.advance(10)  # now their probes are due
    turns += await most_in_a_turn(world)
    assert world.hop.opens == 600
    assert max(turns) <= 10


async def most_in_a_turn(world: World) -> list[int]:
    """Openings begun in each turn of the loop, while the sweep comes as often."""
    turns = []
    for _ in range(150):
        world.scheduler.sweep()
        before = world.hop.opens
        await asyncio.sleep(0)
        turns.append(world.hop.opens - before)
    return turns


async def test_remembered_suspensions_are_bounded_and_the_rest_waits_for_its_probe_on_disk() -> None:
    world = World(bounds=Bounds(suspended=5))
    world.hop.down = refused()
    for number in range(8):
        world.queue.submit(f"mx:d{number}.example")
    await world.settle_down()
    assert len(world.scheduler.suspended.records) == 5
    assert len(world.queue.claimed) == 5
    assert 200 < world.queue.not_before["mx:d0.example"] - world.clock.time() <= 300
    assert world.state("mx:d0.example")["state"] == "suspended"
    world.queue.submit("mx:d0.example")  # waits as well
    await world.settle_down()
    assert (world.hop.opens, world.events.count("lane_resumed")) == (8, 0)
    world.hop.down = None
    await world.pass_time(30)
    assert len(world.hop.arrived) == 5
    await world.pass_time(290)
    assert len(world.hop.arrived) == 9
    assert world.events.count("lane_resumed") == 8
    assert not world.scheduler.suspended.away


async def test_what_waits_for_its_probe_on_disk_is_probed_seldom_and_expires_like_any_other() -> None:
    """Promise 11, for more lanes in trouble than are watched: each probe counts, nobody is forgotten."""
    world = World(config=Config(retry=Retry(give_up=3600.0)), bounds=Bounds(suspended=2))
    world.hop.down = refused()
    for number in range(20):
        world.queue.submit(f"mx:d{number}.example")
    await world.pass_time(1800)
    assert world.hop.opens < 20 * 12  # every 240 to 300 s, the two that are watched more often at first
    assert len(world.queue.rows) == 20
    assert not [take for take in world.queue.takes if not take[2]]  # nothing is taken where nothing can go
    await world.pass_time(2400)
    assert not world.queue.rows
    assert [action for action, _, _ in world.reporter.written] == ["failed"] * 20


async def test_lanes_that_leave_memory_are_gone_without_a_collection_of_garbage() -> None:
    """A hundred thousand lanes in trouble come into memory one after the other."""
    gc.collect()
    gc.disable()
    try:
        world = World()
        for number in range(10):
            world.queue.submit(f"mx:good{number}.example")
        await world.settle_down()
        world.hop.down = refused()
        for number in range(10):
            world.queue.submit(f"mx:bad{number}.example")
        await world.settle_down()
        await world.pass_time(30)
        tools = world.scheduler.tools
        assert [each for each in gc.get_objects() if isinstance(each, Lane) and each.tools is tools] == []
    finally:
        gc.enable()


async def test_of_too_many_lanes_in_trouble_the_oldest_is_forgotten() -> None:
    """Bounded (promise 7); it is tried like any lane when its time comes."""
    world = World(bounds=Bounds(suspended=2, away=3))
    world.hop.down = refused()
    for number in range(8):
        world.queue.submit(f"mx:d{number}.example")
    await world.settle_down()
    assert [len(world.scheduler.suspended.records), len(world.scheduler.suspended.away)] == [2, 3]
    assert world.events.count("lane_forgotten") == 3
    assert world.state("mx:d0.example")["state"] == "healthy"
    world.hop.down = None
    await world.pass_time(310)
    assert len(world.hop.arrived) == 8
