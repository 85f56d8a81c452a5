"""Promise 11, clocks lie: jumps of the wall clock while the relay runs expire nobody and freeze nothing."""

from __future__ import annotations

import pytest
from fakes.clock import FakeClock
from fakes.delivery import refused, said
from fakes.delivery_world import LANE, World

from relay.config.model import Config, Retry
from relay.delivery.age import Ages
from relay.delivery.retry import attempts_provided, expired, longest_wait, next_due

YEARS = 3653 * 86400.0
DAY = 86400.0


@pytest.mark.parametrize("years", [10, -10])
async def test_a_jump_of_years_bounces_nobody_and_freezes_nothing(years: int) -> None:
    """Some wait in a lane that was probed for days, some after a 451, some come after the jump."""
    world = World(config=Config(retry=Retry(give_up=DAY / 2)))
    world.hop.answers = {"full@example.org": [said(451, "4.2.2 mailbox full")]}
    world.queue.submit(LANE, "full@example.org")
    await world.pass_time(4000, 2)  # it was tried four times, and waits
    world.hop.down = refused()
    world.queue.submit("mx:down.example")
    await world.pass_time(2500, 2)
    assert int(str(world.state("mx:down.example")["probes"])) >= 10
    world.clock.jump(years * YEARS / 10)
    world.queue.trust_no_due_after(world.clock.time() + longest_wait(Retry()))
    world.queue.submit("mx:down.example")
    await world.pass_time(2000, 2)
    assert world.reporter.written == []
    world.hop.down = None
    world.hop.answers.clear()
    await world.pass_time(6000, 2)
    assert len(world.hop.arrived) == 3
    assert world.reporter.written == []


async def test_a_busy_lane_tries_again_what_waits_although_the_clock_was_set_back() -> None:
    """It is never quiet, so it is never given back to the queue's schedule: it waits by the steady clock."""
    world = World()
    world.hop.answers = {"full@example.org": [said(451, "4.2.2 mailbox full")]}
    late = world.queue.submit(LANE, "full@example.org")
    await world.settle_down()
    world.clock.jump(-YEARS)
    world.queue.trust_no_due_after(world.clock.time() + longest_wait(Retry()))
    for _ in range(80):
        world.queue.submit(LANE)
        await world.pass_time(1)
    assert world.queue.rows[late].entry.attempts == 2


def test_what_was_accepted_by_a_clock_that_was_ahead_expires_by_its_attempts() -> None:
    """Its age is not known until the clock has caught up, which may be years."""
    provided = attempts_provided(Retry().give_up, Retry())
    assert not expired(-YEARS, provided - 1, Retry())
    assert expired(-YEARS, provided, Retry())
    assert not expired(-1.0, provided, Retry())  # clocks differ a little


async def test_a_lane_in_trouble_lets_expire_what_bears_a_time_of_the_future() -> None:
    """Ids stay ahead after a clock that was ahead: what was never tried is as old as its due time says."""
    world = World(config=Config(retry=Retry(give_up=3600.0)))
    world.hop.down = refused()
    ahead = world.queue.submit(LANE)
    world.queue.age(-YEARS)
    await world.pass_time(1800, 2)
    young = world.queue.submit(LANE)
    world.queue.rows[young].entry.accepted += YEARS
    await world.pass_time(1700, 2)
    assert set(world.queue.rows) == {ahead, young}
    await world.pass_time(600, 2)
    assert set(world.queue.rows) == {young}


def test_a_jump_is_not_age() -> None:
    """Set forward, set back in two steps, and what was accepted between."""
    clock = FakeClock()
    ages, accepted = Ages(clock), clock.time()
    clock.advance(DAY)
    clock.jump(YEARS)
    between = clock.time()
    assert ages.unlived(accepted) == YEARS
    assert ages.accepted_before(DAY - 1) >= accepted
    assert ages.accepted_before(DAY + 1) <= accepted
    clock.advance(DAY)
    assert (ages.unlived(accepted), ages.unlived(between)) == (YEARS, 0)
    clock.jump(-YEARS + 3600)
    assert ages.unlived(accepted) == 3600
    clock.jump(-3600)
    assert ages.unlived(accepted) == 0
    assert clock.time() - accepted == 2 * DAY
    clock.jump(30)
    assert ages.unlived(accepted) == 0  # a correction


def test_no_wait_is_longer_than_the_longest() -> None:
    """What the queue believes of a stored time holds every time that is stored."""
    for retry in (
        Retry(),
        Retry(cap=60.0, schedule=(1.0,)),
        Retry(jitter=0.9, cap=90_000.0, schedule=(90_000.0,)),
    ):
        longest = longest_wait(retry)
        for attempts in (1, 2, 5, 100):
            assert next_due(attempts, 0.0, retry, 0.9999, None) <= longest
            assert next_due(attempts, 0.0, retry, 0.9999, 3600.0) <= longest
    assert longest_wait(Retry()) < 5 * 3600
