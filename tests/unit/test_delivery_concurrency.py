"""The concurrency of a lane is a hard limit as the next hop counts: opening, idle, busy, detours, closing."""

from __future__ import annotations

import asyncio

import pytest
from fakes.delivery import FakeResolver, FakeTable, said
from fakes.delivery_world import LANE, World

from relay.config.model import Config
from relay.delivery.crowding import too_many_connections
from relay.delivery.job import Verdict
from relay.outcome import Outcome
from relay.reply import Reply

CROWDED = "4.3.2 Concurrent connections limit exceeded"


async def drained(world: World, messages: int, most: int) -> None:
    """Until all is sent, what was closed ending one by one; never more than `most` at the next hop."""
    for _ in range(50 * messages):
        if world.hop.quitting:
            world.hop.quitting[0].gone()
        await world.settle_down(5)
        assert len(world.hop.links) <= most
        if len(world.hop.arrived) >= messages:
            return
    raise AssertionError(f"{len(world.hop.arrived)} of {messages} messages")


async def test_what_is_closing_counts_until_it_is_gone() -> None:
    world = World(table=FakeTable(concurrency=3, per_connection=2))
    world.hop.slow_quit = True
    for _ in range(60):
        world.queue.submit(LANE)
    await world.settle_down(100)
    stuck = len(world.hop.arrived)
    assert stuck < 60 and len(world.hop.quitting) == 3
    assert world.scheduler.lanes[LANE].links.full
    await drained(world, 60, most=3)
    assert world.hop.most <= 3


async def test_a_connection_that_idled_too_long_counts_until_it_is_gone() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.hop.slow_quit = True
    world.queue.submit(LANE)
    await world.pass_time(15)
    assert len(world.hop.quitting) == 1
    assert LANE in world.scheduler.lanes  # who else would remember it
    world.queue.submit(LANE)
    await world.pass_time(1)
    assert len(world.hop.arrived) == 1
    world.hop.quitting[0].gone()
    await world.settle_down()
    assert len(world.hop.arrived) == 2
    assert world.hop.most == 1


async def test_a_reload_to_fewer_connections() -> None:
    world = World(table=FakeTable(concurrency=6))
    world.hop.slow_quit = world.hop.hold = True
    for _ in range(100):
        world.queue.submit(LANE)
    await world.settle_down()
    world.hop.answer(6)
    await world.settle_down()
    assert len(world.hop.links) == 6
    world.table.concurrency = 3
    world.scheduler.reload(Config(), world.table, world.resolver)
    for _ in range(200):
        before = len(world.hop.links)
        if world.hop.quitting:
            world.hop.quitting[0].gone()
        world.hop.answer(1)
        await world.settle_down(5)
        assert len(world.hop.links) <= max(3, before)
    assert len(world.hop.links) == 3


async def test_after_a_suspension_what_still_sends_counts() -> None:
    """The lane that probes is another object, the next hop counts what it always counted."""
    world = World(table=FakeTable(concurrency=3))
    await world.refuse_the_login_of_one_of(40)
    assert world.state()["state"] == "suspended"
    assert len(world.hop.busy) == 2
    world.scheduler.suspended.hasten()
    for _ in range(10):
        await world.pass_time(0.5)
        assert len(world.hop.links) <= 3
    lane = world.scheduler.lanes[LANE]
    assert (lane.links.working, lane.links.total) == (1, 3)
    world.hop.hold = False
    world.hop.answer(10)
    await world.pass_time(2)
    assert lane.links.total <= 3
    assert world.hop.most == 3


async def test_after_a_suspension_what_is_closing_counts() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.hop.slow_quit = True
    await world.refuse_the_login_of_one_of(1)
    assert len(world.hop.quitting) == 1
    world.scheduler.suspended.hasten()
    await world.pass_time(2)
    assert len(world.hop.links) == 1
    world.hop.quitting[0].gone()
    await world.pass_time(1)
    assert world.hop.opens == 2 and world.hop.most == 1


async def test_a_detour_takes_the_place_of_a_connection() -> None:
    """The first host put the message off; the second is asked when the connection to the first is gone."""
    world = World(table=FakeTable(concurrency=2), resolver=FakeResolver("a.example", "b.example"))
    world.hop.slow_quit = world.hop.hold = True
    world.hop.answers["to@example.org a.example"] = [said(451, "later")]
    world.queue.submit(LANE)
    world.queue.submit(LANE, "other@example.org")
    await world.settle_down()
    assert world.hop.by_host == {"a.example": 2}
    world.hop.answer(1)
    await world.settle_down(50)
    assert len(world.hop.quitting) == 1
    assert world.hop.by_host["b.example"] == 0
    world.hop.quitting[0].gone()
    await world.settle_down(50)
    assert world.hop.by_host["b.example"] == 1
    world.hop.answer(2)
    await world.settle_down()
    assert sorted(world.hop.arrived) == ["other@example.org", "to@example.org"]
    assert world.hop.most == 2
    for link in list(world.hop.quitting):
        link.gone()
    assert world.scheduler.lanes[LANE].links.total == len(world.hop.links)


@pytest.mark.parametrize("connections", [2, 5])
async def test_connections_of_a_route_count_over_all_its_lanes(connections: int) -> None:
    world = World(table=FakeTable(concurrency=4))
    world.table.route, world.table.connections = "all", connections
    for _ in range(10):
        for number in range(8):
            world.queue.submit(f"mx:d{number}.example")
    for _ in range(20):
        await world.pass_time(1)
    assert len(world.hop.arrived) == 80
    assert world.hop.most <= connections
    world.table.connections = 1
    world.scheduler.reload(Config(), world.table, world.resolver)
    await world.settle_down()
    assert world.scheduler.tools.pool.taken == 0
    world.hop.most = 0
    for number in range(8):
        world.queue.submit(f"mx:d{number}.example")
    await world.pass_time(5)
    assert (len(world.hop.arrived), world.hop.most) == (88, 1)


@pytest.mark.parametrize(
    ("outcome", "closed"),
    [
        (said(432, CROWDED, "mail"), False),
        (said(421, "4.7.0 Too many concurrent SMTP connections", "mail"), True),
        (said(432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", "dot"), False),
    ],
)
async def test_too_many_connections_costs_the_message_no_attempt(outcome: Outcome, closed: bool) -> None:
    """It goes by those that work, and for a while there are no more of them."""
    world = World(table=FakeTable(concurrency=5))
    world.hop.hold = True
    for _ in range(30):
        world.queue.submit(LANE)
    await world.settle_down()
    assert len(world.hop.busy) == 5
    link = world.hop.busy.pop(2)
    assert link.job is not None
    link.job.results[0] = outcome
    link.finish(Verdict(elsewhere=[0]), closed=closed)
    world.hop.hold = False
    window = world.scheduler.lanes[LANE].links.window
    assert window.size == 4.0
    world.hop.answer(10)
    await world.settle_down(100)
    assert len(world.hop.arrived) == 30
    assert world.events.count("attempted") == 30
    assert window.size == 4.0 and len(world.hop.links) <= 4


async def test_the_only_connection_that_is_too_many_is_an_attempt() -> None:
    """Nothing else works: the retry schedule decides, not a loop."""
    world = World()
    world.hop.answers["to@example.org"] = [said(432, CROWDED, "mail")]
    world.queue.submit(LANE)
    await asyncio.wait_for(world.settle_down(), 5)
    (row,) = world.queue.rows.values()
    assert row.entry.attempts == 1


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "crowded"),
    [
        (432, "4.3.2", "Concurrent connections limit exceeded", True),
        (432, "4.3.2", "STOREDRV.ClientSubmit; sender thread limit exceeded", True),
        (421, "4.7.0", "mx.example Error: too many connections from 192.0.2.1", True),
        (421, "4.3.2", "Too many open connections.", True),
        (450, "4.0.0", "Too many concurrent SMTP sessions, try again later", True),
        (421, "4.7.0", "Connection limit reached", True),
        (421, "4.3.2", "Service not available, closing transmission channel", False),
        (450, "4.2.1", "The user you are trying to contact is receiving mail too quickly", False),
        (452, "4.5.3", "Too many recipients", False),
        (432, "4.7.12", "A password transition is needed", False),
        (550, "5.7.1", "too many connections", False),
        (0, "4.4.1", "connection refused", False),
    ],
)
def test_who_asks_for_fewer_connections(code: int, enhanced: str, text: str, crowded: bool) -> None:
    assert too_many_connections(Reply(code, enhanced, text)) is crowded
