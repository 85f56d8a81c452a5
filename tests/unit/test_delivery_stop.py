"""Stop and reload: what is in hand goes back, what is past the dot may finish, lanes are sorted anew."""

from __future__ import annotations

import asyncio

from fakes.delivery import FakeTable, refused, said
from fakes.delivery_world import LANE, World

from relay.config.model import Config
from relay.delivery.tools import Bounds


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


async def test_once_halted_it_asks_the_queue_nothing() -> None:
    """A queue that has failed is closed while next hops are still connected; the timer goes on otherwise."""
    world = World(bounds=Bounds(tick=0.001))
    asked = asyncio.Event()
    world.queue.next_wake = asked.set  # type: ignore[method-assign]
    await asyncio.wait_for(asked.wait(), 30)
    world.scheduler.halt()
    asked.clear()
    await asyncio.sleep(0.02)  # in which it would have asked
    assert not asked.is_set()


async def test_stop_during_an_opening_leaves_nothing_open() -> None:
    world = World()
    world.hop.gate = asyncio.Event()
    world.queue.submit(LANE)
    await world.settle_down()
    await asyncio.wait_for(world.scheduler.stop(1.0), 5)
    assert world.hop.links == []
    assert world.scheduler.tools.pool.taken == 0
    assert world.queue.leased == 0


async def suspended_with(messages: int) -> World:
    """So many wait in LANE, whose next hop is down."""
    world = World()
    world.hop.down = refused()
    for _ in range(messages):
        world.queue.submit(LANE)
    await world.settle_down()
    return world


async def test_after_a_reload_entries_move_to_the_lane_they_now_belong_to() -> None:
    world = await suspended_with(30)
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


async def test_mail_leaves_a_lane_whose_next_hop_stays_down_after_a_reload() -> None:
    """That is what a new route is mostly for. What belongs to the lane stays, and no attempt is counted."""
    world = await suspended_with(250)
    assert not [keywords for _, _, keywords in world.queue.settled if keywords["lane"]]
    other = FakeTable()
    other.routes = {"example.org": "mx:smart.example"}
    world.scheduler.reload(Config(), other, world.resolver)
    await world.pass_time(20)
    moved = [(entry.id, keywords) for entry, _, keywords in world.queue.settled if keywords["lane"]]
    assert {(move["lane"], move["counted"]) for _, move in moved} == {("mx:smart.example", False)}
    assert len({entry for entry, _ in moved}) == 250
    assert (len(world.queue.lanes[LANE]), len(world.queue.lanes["mx:smart.example"])) == (0, 250)
    assert world.scheduler.suspended.mixed == set()


async def test_what_belongs_to_a_suspended_lane_stays_after_a_reload() -> None:
    world = await suspended_with(3)
    world.scheduler.reload(Config(), FakeTable(), world.resolver)
    await world.pass_time(1)
    assert {keywords["lane"] for _, _, keywords in world.queue.settled} == {None}
    world.hop.down = None
    await world.pass_time(10)
    assert len(world.hop.arrived) == 3


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
    await world.refuse_the_login_of_one_of(3)
    assert world.scheduler.lanes == {}
    assert world.queue.leased > 0
    await asyncio.wait_for(world.scheduler.stop(1.0), 5)
    assert world.queue.leased == 0
    assert {row.entry.attempts for row in world.queue.rows.values()} == {0}
