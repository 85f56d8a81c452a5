"""Lanes with a rate: never too fast, nearly as fast as allowed, fair, and in nobody's way."""

from __future__ import annotations

import asyncio
import gc
import time
from bisect import bisect_left

import pytest
from fakes.clock import FakeClock
from fakes.delivery import refused, said
from fakes.delivery_rated import FAST, SLOW, limited, route
from fakes.delivery_world import LANE, World

from relay.config.model import Config
from relay.delivery.job import Kind, Verdict
from relay.delivery.pool import Link
from relay.delivery.rate import Rate
from relay.delivery.throttle import Throttle


def worst(times: list[float], window: float) -> int:
    """The most transactions in any window of so many seconds."""
    return max(bisect_left(times, begin + window) - place for place, begin in enumerate(times))


async def test_it_is_never_too_fast_and_nearly_as_fast_as_allowed() -> None:
    world = limited()
    for _ in range(200):
        world.queue.submit(LANE)
    times = await world.pace(15, 0.002)
    assert worst(times, 1.0) <= 10
    assert worst(times, 10.0) <= 100
    assert len(times) >= 150 * 0.98


async def test_an_idle_lane_sends_at_once() -> None:
    world = limited(SLOW)
    world.queue.submit(LANE)
    await world.settle_down()
    assert len(world.hop.arrived) == 1
    await world.pace(3, 0.5)
    world.queue.submit(LANE)
    await world.settle_down()
    assert len(world.hop.arrived) == 2


async def test_a_lane_that_was_dropped_in_between_keeps_its_time() -> None:
    """Its connection is closed and the lane forgotten long before the next message may go."""
    world = limited((1, 60.0))
    world.queue.submit(LANE)
    await world.pace(20, 0.5)
    assert LANE not in world.scheduler.lanes
    gc.collect()
    world.queue.submit(LANE)
    assert await world.pace(40, 0.5) == []
    assert len(await world.pace(3, 0.5)) == 1


@pytest.mark.parametrize(("rate", "most"), [(FAST, 20), (SLOW, 1), ((5, 60.0), 1)])
async def test_waiting_costs_no_attempt_no_write_and_hardly_a_lease(
    rate: tuple[int, float], most: int
) -> None:
    """Promise 6: what is leased is at risk in a crash, so no more is than can go within two seconds."""
    world = limited(rate)
    for _ in range(300):
        world.queue.submit(LANE)
    sent = 0
    for _ in range(40):
        sent += len(await world.pace(0.5))
        assert world.queue.leased <= most
        assert world.held <= most
    assert sent == len(world.hop.arrived) == len(world.queue.settled)
    assert {row.entry.attempts for row in world.queue.rows.values()} == {0}
    assert len(world.queue.takes) <= sent + 1
    lane = world.scheduler.lanes[LANE]
    assert lane.links.working <= 2


async def test_five_a_minute_leases_two_seconds_before_its_time() -> None:
    world = limited((5, 60.0))
    for _ in range(3):
        world.queue.submit(LANE)
    await world.pace(9.5)
    assert (len(world.hop.arrived), world.queue.leased) == (1, 0)
    await world.pace(1.5)
    assert (len(world.hop.arrived), world.queue.leased) == (1, 1)
    await world.pace(1.5)
    assert len(world.hop.arrived) == 2


async def test_other_lanes_do_not_notice() -> None:
    """Promise 8: a backlog behind a rate is on disk; whatever its size, it is not in the way of others."""
    world = limited(SLOW)
    for _ in range(5000):
        world.queue.submit(LANE)
    assert world.held <= 2
    for number in range(400):
        world.queue.submit(f"mx:d{number}.example")
    await world.settle_down(200)
    assert len(world.hop.arrived) == 401
    assert world.held <= 1


async def test_fresh_mail_takes_turns_with_the_backlog() -> None:
    world = limited(SLOW)
    world.hop.answers["to@example.org"] = [said(451, "later")] * 3 + [said(250, "ok")]
    for _ in range(3):
        world.queue.submit(LANE)
    await world.pace(8)
    old = [world.queue.submit(LANE) for _ in range(50)]
    for row in world.queue.rows.values():
        row.entry.fresh = False
    await world.pace(20)
    new = [world.queue.submit(LANE) for _ in range(5)]
    await world.pace(30)
    assert set(new) <= set(world.hop.order)
    assert len(set(old) & set(world.hop.order)) >= 5


async def test_a_backlog_gets_turns_while_fresh_mail_keeps_coming() -> None:
    world = limited(SLOW)
    world.queue.submit(LANE)
    await world.settle_down()
    old = [world.queue.submit(LANE) for _ in range(50)]
    for row in world.queue.rows.values():
        row.entry.fresh = False
    for _ in range(40):
        world.queue.submit(LANE)
        await world.pace(1.0, 0.05)
    tried = len(set(old) & set(world.hop.order))
    assert 8 <= tried <= len(world.hop.order) - 8


async def test_the_lanes_of_a_route_share_its_rate_and_take_turns() -> None:
    world = route((120, 60.0))
    lanes = [f"mx:d{number}.example" for number in range(8)]
    for lane in lanes:
        for _ in range(50):
            world.queue.submit(lane)
    times: list[float] = []
    for second in range(60):
        times += [second + each for each in await world.pace(1.0)]
        assert world.queue.leased <= 12
    assert worst(times, 60.0) <= 120
    assert len(times) >= 112
    counts = [sum(lane[3:] in address for address in world.hop.arrived) for lane in lanes]
    assert min(counts) >= 10
    assert max(counts) < 2 * min(counts)


async def test_who_comes_later_waits_behind_those_who_stand_in_line() -> None:
    """One lane is always ready for more; new ones get their turn once they have a connection."""
    world = route(SLOW)
    for _ in range(30):
        world.queue.submit(LANE)
    await world.pace(3)
    for lane in ("mx:a.example", "mx:b.example"):
        for _ in range(5):
            world.queue.submit(lane)
    eager = world.scheduler.lanes[LANE]
    for _ in range(100):
        eager.pump()
        await world.pace(0.1)
        eager.pump()
    assert {name for name, _ in world.hop.sent[4:7]} == {LANE, "mx:a.example", "mx:b.example"}


async def test_a_lane_in_trouble_leaves_its_room_to_others() -> None:
    world = route(FAST)
    world.hop.hold = True
    for _ in range(30):
        world.queue.submit("mx:a.example")
    await world.pace(1)
    throttle = world.scheduler.lanes["mx:a.example"].throttle
    assert throttle is not None and throttle.held >= 8
    world.hop.busy.pop().finish(Verdict(lane="auth"))
    assert throttle.held == 0
    for _ in range(30):
        world.queue.submit("mx:b.example")
    world.hop.hold = False
    await world.pace(1.5)
    assert throttle.held == world.scheduler.lanes["mx:b.example"].in_hand > 0
    assert sum("b.example" in address for address in world.hop.arrived) >= 14


async def test_a_reload_changes_the_rate() -> None:
    world = limited((1, 3600.0))
    for _ in range(300):
        world.queue.submit(LANE)
    await world.pace(5, 0.5)
    assert len(world.hop.arrived) == 1
    world.table.rates[LANE] = FAST
    world.scheduler.reload(Config(), world.table, world.resolver)
    assert 95 <= len(await world.pace(10)) <= 100
    world.table.rates.clear()
    world.scheduler.reload(Config(), world.table, world.resolver)
    await world.settle_down(400)
    assert len(world.hop.arrived) == 300


async def test_a_dead_kept_connection_costs_a_turn_and_nothing_more() -> None:
    """The next hop may have counted it; the message stays first in line."""
    world = limited(SLOW)
    world.queue.submit(LANE)
    await world.pace(5)
    world.hop.hold = True
    first = world.queue.submit(LANE)
    world.queue.submit(LANE)
    await world.settle_down()
    link = world.hop.busy.pop()
    world.hop.hold = False
    link.finish(Verdict(Kind.FRESH), closed=True)
    assert await world.pace(1.9) == []
    assert len(await world.pace(0.3)) == 1
    assert world.hop.order[-1] == first
    assert world.events.count("attempted") == 2


async def test_many_recipients_are_several_messages() -> None:
    world = limited(SLOW)
    many = [f"u{number}@example.org" for number in range(250)]
    world.queue.submit(LANE, *many)
    await world.settle_down()
    world.queue.submit(LANE)
    assert await world.pace(5.8) == []
    assert len(await world.pace(0.5)) == 1


async def test_how_long_the_rate_makes_wait_is_told() -> None:
    world = limited(SLOW)
    for _ in range(3):
        world.queue.submit(LANE)
    await world.pace(1)
    state = world.state()
    assert state["rate"] == "30/min"
    assert world.clock.time() < float(str(state["rate_until"])) <= world.clock.time() + 2.02
    assert state["state"] == "healthy"
    await world.pace(4)
    assert world.state()["rate_until"] == 0.0
    assert sum(seconds for _, seconds in world.events.of("throttled")) == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(("rate", "told"), [(FAST, 2.0), (SLOW, 10.0)])
async def test_a_wait_for_a_connection_is_none_for_the_rate(rate: tuple[int, float], told: float) -> None:
    """Its length says whether a rate is too low; a next hop that takes a minute for each has a rate to spare.
    However much waits: in hand, and on disk."""
    world = limited(rate, concurrency=1)
    world.hop.hold = True
    for _ in range(100):
        world.queue.submit(LANE)
    for sent in range(1, 5):
        await world.pace(60, 0.1)
        assert (len(world.hop.order), len(world.hop.busy)) == (sent, 1)
        world.hop.answer()
    assert sum(seconds for _, seconds in world.events.of("throttled")) < told


async def test_a_lane_without_a_rate_says_so() -> None:
    world = World()
    world.queue.submit(LANE)
    assert (world.state()["rate"], world.state()["rate_until"]) == ("", 0.0)


async def test_stop_while_mail_waits_for_its_rate() -> None:
    world = limited(SLOW)
    for _ in range(5):
        world.queue.submit(LANE)
    await world.pace(0.1)
    await world.scheduler.stop(1.0)
    assert (world.queue.leased, world.held) == (0, 0)
    assert {row.entry.attempts for row in world.queue.rows.values()} == {0}


async def test_a_next_hop_that_is_down_and_back_keeps_the_rate() -> None:
    world = limited(FAST)
    world.hop.down = refused()
    for _ in range(200):
        world.queue.submit(LANE)
    await world.pace(1)
    assert world.state()["state"] == "suspended"
    world.hop.down = None
    times = await world.pace(20)
    assert worst(times, 10.0) <= 100
    assert len(times) >= 130


class Holder:
    """A lane that counts its turns."""

    def __init__(self) -> None:
        self.turn = asyncio.Event()

    def pump(self) -> None:
        self.turn.set()

    def give_up(self, link: Link) -> None:
        raise AssertionError("it has no connections")


async def test_the_line_is_first_come_first_served() -> None:
    clock, one, two = FakeClock(), Holder(), Holder()
    throttle = Throttle(Rate(30, 60.0), clock)
    assert throttle.ready(one, 1)
    throttle.bucket.charge(clock.monotonic())
    assert not throttle.ready(one, 1)
    assert not throttle.ready(two, 1)
    clock.advance(2.1)
    assert not throttle.ready(two, 1)
    assert throttle.ready(one, 1)
    assert throttle.ready(two, 1)
    throttle.holds(one, 1, True)
    assert throttle.room(one, 1, True) == 0
    assert throttle.room(two, 0, True) == 0
    assert not throttle.admits(two, 0, True)
    throttle.holds(one, 0, True)
    assert throttle.room(two, 0, True) == 0
    assert not throttle.admits(two, 0, True)
    assert throttle.room(one, 0, True) == 1
    throttle.leave(two)
    assert throttle.admits(one, 0, True)


async def test_the_timer_gives_the_turn() -> None:
    """Without any sweep, in real time: to who waits to send, and to who waits for room."""
    throttle = Throttle(Rate(100, 1.0), time)
    sender, taker = Holder(), Holder()
    throttle.bucket.charge(time.monotonic())
    throttle.bucket.charge(time.monotonic())
    assert not throttle.ready(sender, 1)
    async with asyncio.timeout(5):
        await sender.turn.wait()
    assert throttle.bucket.wait(time.monotonic()) == 0
    throttle.holds(sender, 1000, True)
    assert throttle.room(taker, 0, True) == 0
    throttle.holds(sender, 0, True)
    async with asyncio.timeout(5):
        await taker.turn.wait()
