"""mailqueue: a wall clock that lies. No stored time is believed that nobody can have meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.spool import everything, leasing, message, opened

from mailqueue import Options, Queue

LANE, OTHER = "mx:a", "mx:b"
HOUR, YEARS = 3600.0, 3653 * 86400.0
OPTIONS = Options(reserve=0, ballast=0, longest_wait=5 * HOUR)


async def deferred(queue: Queue, clock: FakeClock) -> None:
    """One in each lane, due in four hours and in a minute."""
    leased = leasing(queue)
    for lane, wait in ((LANE, 4 * HOUR), (OTHER, 60.0)):
        await queue.accept(message(lane))
        queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + wait)
    queue.admit = lambda lane: False
    await queue.flush()


async def waits(queue: Queue, clock: FakeClock) -> dict[str, float]:
    """How long each lane waits until something of it can be taken, as the queue says in both ways."""
    found: dict[str, float] = {}
    wake = queue.next_wake()
    assert wake is not None
    for lane in (LANE, OTHER):
        due = queue.next_due(lane)
        assert due is not None
        found[lane] = max(0.0, due - clock.time())
    assert max(0.0, wake - clock.time()) == min(found.values())
    return found


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        (0.0, [4 * HOUR, 60.0]),
        (-0.5 * HOUR, [4.5 * HOUR, 0.5 * HOUR + 60]),
        (-3 * HOUR, [0.0, 3 * HOUR + 60]),  # seven hours ahead: nobody waits so long
        (-6 * HOUR, [0.0, 0.0]),
        (-YEARS, [0.0, 0.0]),
        (3 * HOUR, [HOUR, 0.0]),
        (YEARS, [0.0, 0.0]),
    ],
)
async def test_a_jump_delays_nobody_beyond_the_longest_wait(
    tmp_path: Path, jump: float, expected: list[float], restart: bool
) -> None:
    """While running and between runs; what is said to be due can also be claimed and taken."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", OPTIONS, now=clock.time) as queue:
        await deferred(queue, clock)
        clock.jump(jump)
        if not restart:
            await due_as_said(queue, clock, expected)
    if restart:
        async with opened(tmp_path / "spool", OPTIONS, now=clock.time) as queue:
            await due_as_said(queue, clock, expected)


async def due_as_said(queue: Queue, clock: FakeClock, expected: list[float]) -> None:
    found = await waits(queue, clock)
    assert expected == [found[LANE], found[OTHER]]
    now = {lane for lane, wait in found.items() if not wait}
    assert now == set(queue.claim(5, clock.time()))
    for lane in (LANE, OTHER):
        queue.claim_lane(lane)
        assert len(await queue.take(lane, 5)) == (lane in now)


async def test_what_is_believed_can_change(tmp_path: Path) -> None:
    """A configuration with longer waits is read again."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", OPTIONS, now=clock.time) as queue:
        await deferred(queue, clock)
        clock.jump(-3 * HOUR)
        queue.trust(8 * HOUR)
        assert (await waits(queue, clock))[LANE] == 7 * HOUR
        queue.trust(2 * HOUR)
        assert await waits(queue, clock) == {LANE: 0.0, OTHER: 0.0}


async def test_a_new_message_is_due_at_once_after_a_jump(tmp_path: Path) -> None:
    """Its id stays ahead of the clock, its due time does not; so its age can be known all the same."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", OPTIONS, now=clock.time) as queue:
        await queue.accept(message(LANE))
        clock.jump(-YEARS)
        await queue.accept(message(OTHER))
        rows = {row.lane: row for row in await everything(queue)}
        assert rows[OTHER].accepted > clock.time() + HOUR
        assert rows[OTHER].due == clock.time() == queue.next_due(OTHER)


async def test_what_bears_a_time_of_the_future_is_taken_when_it_is_asked_for(tmp_path: Path) -> None:
    """Beside what is old; what is merely young is left."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", OPTIONS, now=clock.time) as queue:
        old = await queue.accept(message(LANE))
        clock.advance(10 * HOUR)
        young = await queue.accept(message(LANE))
        clock.jump(YEARS)
        ahead = await queue.accept(message(LANE))
        clock.jump(-YEARS)
        clock.advance(10)
        queue.claim_lane(LANE)
        before = clock.time() - HOUR
        assert [old] == [entry.message for entry in await queue.take(LANE, 5, older_than=before)]
        taken = await queue.take(LANE, 5, older_than=before, from_future=True)
        assert [ahead] == [entry.message for entry in taken]
        assert young not in [entry.message for entry in taken]
