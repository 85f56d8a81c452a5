"""A rate beside what is not its own: dead next hops, other routes, detours, a reload."""

from __future__ import annotations

import pytest
from fakes.delivery import said
from fakes.delivery_rated import FAST, SLOW, SomeSlow, limited, route
from fakes.delivery_world import LANE, World

from relay.config.model import Config
from relay.delivery.tools import Bounds


async def test_the_lanes_of_a_slow_route_leave_memory_to_others() -> None:
    """More domains wait for one rate than lanes may be in memory: others find room, the rate is used, and
    every domain has its turn."""
    table = SomeSlow()
    table.rates["slow"] = (60, 60.0)
    world = World(table=table, bounds=Bounds(lanes=10))
    for _ in range(3):
        for number in range(20):
            world.queue.submit(f"mx:slow{number}.example")
    await world.pass_time(20, 0.1)
    assert len(world.scheduler.lanes) <= 6
    for number in range(5):
        world.queue.submit(f"mx:live{number}.example")
    await world.pass_time(1)
    assert sum("live" in address for address in world.hop.arrived) == 5
    await world.pass_time(46, 0.1)
    assert len(world.hop.arrived) == 65
    assert not world.queue.rows


@pytest.mark.parametrize("dead", [4, 12])
async def test_lanes_that_wait_for_a_connection_hold_nobody_up(dead: int) -> None:
    world = route(SLOW)
    world.hop.stuck = {f"mx:dead{number}.example" for number in range(dead)}
    for lane in (*world.hop.stuck, LANE):
        for _ in range(20):
            world.queue.submit(lane)
    assert len(await world.pace(20, 0.05)) >= 6
    assert world.queue.leased <= dead + 2


async def test_a_rate_does_not_hold_what_goes_another_way_since_a_reload() -> None:
    world = limited((1, 3600.0))
    for _ in range(100):
        world.queue.submit(LANE)
    await world.pace(1, 0.5)
    world.table.gone, world.table.routes["example.org"] = {LANE}, "mx:other.example"
    world.scheduler.reload(Config(), world.table, world.resolver)
    await world.pass_time(2)
    await world.settle_down(300)
    assert len(world.hop.arrived) == 100


@pytest.mark.parametrize(("rate", "recipients"), [((1, 3600.0), 1), ((1, 60.0), 250)])
async def test_a_detour_that_the_rate_does_not_allow_for_long_is_not_made(
    rate: tuple[int, float], recipients: int
) -> None:
    """No open connection waits for it; the retry schedule does."""
    world = limited(rate)
    world.resolver.resolution = type(world.resolver)("a.example", "b.example").resolution
    many = [f"u{number}@example.org" for number in range(recipients)]
    for address in many:
        world.hop.answers[f"{address} a.example"] = [said(451, "later")]
    world.queue.submit(LANE, *many)
    await world.settle_down()
    assert world.hop.by_host == {"a.example": 1}
    (row,) = world.queue.rows.values()
    assert (row.leased, row.entry.attempts) == (False, 1)


async def test_a_detour_whose_turn_was_taken_meanwhile_is_not_waited_for() -> None:
    """While it was connecting, others were charged."""
    world = limited((1, 60.0))
    world.resolver.resolution = type(world.resolver)("a.example", "b.example").resolution
    world.hop.answers["to@example.org a.example"] = [said(451, "later")]
    world.queue.submit(LANE)
    for _ in range(100):
        if "b.example" in world.hop.by_host:
            break
        await world.settle_down(1)
    throttle = world.scheduler.lanes[LANE].throttle
    assert throttle is not None
    throttle.bucket.charge(world.clock.monotonic())
    free_at = throttle.bucket.free_at
    await world.settle_down()
    (row,) = world.queue.rows.values()
    assert (row.leased, row.entry.attempts) == (False, 1)
    assert throttle.bucket.free_at == free_at


async def test_a_detour_is_another_message() -> None:
    world = limited(FAST)
    world.resolver.resolution = type(world.resolver)("a.example", "b.example").resolution
    world.hop.answers["to@example.org a.example"] = [said(451, "later")]
    world.queue.submit(LANE)
    await world.settle_down()
    assert (len(world.hop.arrived), len(world.hop.order)) == (0, 1)
    throttle = world.scheduler.lanes[LANE].throttle
    assert throttle is not None
    assert 0.1 < throttle.bucket.wait(world.clock.monotonic()) < 0.21
