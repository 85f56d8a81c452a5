"""mailqueue: what waits is leased: due times, turns, lanes on the schedule and lanes that are claimed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.spool import Recorder, everything, leasing, message, opened

from mailqueue import Entry, Filter, Queue, State

LANE = "mx:a"
WEEK = 7 * 86400


async def fill(queue: Queue, clock: FakeClock, fresh: int, backlog: int) -> None:
    """Entries in one claimed lane: `backlog` deferred ones that are due, then `fresh` ones, 1 s apart."""
    queue.claim_lane(LANE)
    for _ in range(backlog):
        clock.advance(1)
        await queue.accept(message(LANE))
    taken = await queue.take(LANE, backlog) if backlog else []
    for entry in taken:
        queue.settle(entry, entry.recipients, due=clock.time())
    for _ in range(fresh):
        clock.advance(1)
        await queue.accept(message(LANE))


def kinds(entries: list[Entry]) -> str:
    """f for fresh, b for backlog."""
    return "".join("f" if entry.fresh else "b" for entry in entries)


async def test_take_gives_only_what_is_due(tmp_path: Path) -> None:
    """The earliest due first, at most n; taken ones are ACTIVE."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        for wait in (30, 10, 20, 90):
            await queue.accept(message(LANE, sender=f"{wait}@x"))
            queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + wait)
        queue.claim_lane(LANE)
        clock.advance(60)
        assert [entry.sender for entry in await queue.take(LANE, 2)] == ["10@x", "20@x"]
        assert [entry.sender for entry in await queue.take(LANE, 5)] == ["30@x"]
        assert await queue.take(LANE, 5) == []
        assert queue.stats()[State.ACTIVE].entries == 3
        assert clock.time() + 30 == queue.next_due(LANE)


@pytest.mark.parametrize(
    ("fresh", "backlog", "n", "expected"),
    [(4, 4, 4, "fbfb"), (4, 1, 5, "fbfff"), (1, 4, 5, "fbbbb"), (0, 3, 2, "bb"), (3, 0, 2, "ff")],
)
async def test_fresh_mail_and_backlog_take_turns(
    tmp_path: Path, fresh: int, backlog: int, n: int, expected: str
) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        await fill(queue, clock, fresh, backlog)
        queue.unclaim(LANE)
        await queue.flush()
        queue.claim_lane(LANE)
        assert expected == kinds(await queue.take(LANE, n))


async def test_turns_go_on_from_take_to_take(tmp_path: Path) -> None:
    """One at a time: fresh, backlog, fresh, ..."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        await fill(queue, clock, 5, 5)
        assert "".join([kinds(await queue.take(LANE, 1)) for _ in range(6)]) == "bfbfbf"


async def test_take_by_age_ignores_due(tmp_path: Path) -> None:
    """For the expiry of suspended lanes: what was accepted before a time, due or not, no other lane's."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        for lane in (LANE, "mx:b", LANE, LANE):
            clock.advance(100)
            await queue.accept(message(lane))
            queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + 3600)
        queue.claim_lane(LANE)
        old = await queue.take(LANE, 10, older_than=clock.time() - 50)
        assert [leased[0].id, leased[2].id] == [entry.id for entry in old]


async def test_a_cancelled_take_gives_back(tmp_path: Path) -> None:
    """Whoever asked is gone: the entries are not lost in a lease that nobody holds."""
    async with opened(tmp_path / "spool") as queue:
        await queue.accept(message(LANE))
        queue.claim_lane(LANE)
        queue.take(LANE, 5).cancel()
        await queue.flush()
        await queue.flush()
        assert {State.INCOMING} == {row.state for row in await everything(queue)}
        assert len(await queue.take(LANE, 5)) == 1


async def test_far_future_dues_come_from_lying_clocks(tmp_path: Path) -> None:
    """Due in a month: the clock was wrong then, so it is due now; tomorrow is tomorrow."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        for wait in (86400, 30 * 86400):
            await queue.accept(message(LANE, sender=f"{wait}@x"))
            queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + wait)
        await queue.flush()
        queue.claim_lane(LANE)
        assert clock.time() == queue.next_due(LANE)
        assert [f"{30 * 86400}@x"] == [entry.sender for entry in await queue.take(LANE, 5)]
        assert clock.time() + 86400 == queue.next_due(LANE)


async def test_a_lane_with_only_far_dues_is_offered(tmp_path: Path) -> None:
    """The clock was a month ahead when this was deferred, and is right again."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:soon"))
        queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + 60)
        clock.jump(30 * 86400)
        await queue.accept(message(LANE))
        queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + 60)
        await queue.flush()
        clock.jump(-30 * 86400)
        assert clock.time() == queue.next_wake()
        assert queue.claim(5, clock.time()) == [LANE]


async def test_claim_offers_due_lanes_earliest_first(tmp_path: Path) -> None:
    """Each once; lanes that are claimed, held or not due are not offered."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        for lane in ("c", "a", "b", "held"):
            clock.advance(1)
            await queue.accept(message(lane))
        await queue.hold(Filter(lane="held"))
        queue.claim_lane("b")
        await queue.flush()
        assert queue.claim(1, clock.time()) == ["c"]
        assert queue.claim(9, clock.time()) == ["a"]
        assert queue.claim(9, clock.time()) == []
        assert queue.next_wake() is None


async def test_an_unclaimed_lane_is_offered_when_due(tmp_path: Path) -> None:
    """At its earliest due, or at not_before if that is later."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message(LANE))
        queue.claim_lane(LANE)
        queue.settle(leased[0], leased[0].recipients, due=clock.time() + 60)
        assert clock.time() + 60 == queue.next_due(LANE)
        queue.unclaim(LANE)
        await queue.flush()
        assert clock.time() + 60 == queue.next_wake()
        queue.claim_lane(LANE)
        queue.unclaim(LANE, clock.time() + 300)
        await queue.flush()
        assert clock.time() + 300 == queue.next_wake()
        assert clock.time() + 300 == queue.lane_tally(LANE).next
        assert queue.claim(5, clock.time() + 299) == []
        assert queue.claim(5, clock.time() + 300) == [LANE]


async def test_fresh_mail_does_not_end_a_postponement(tmp_path: Path) -> None:
    """A suspended lane is not offered for every message that comes in; an operator's retry offers it."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        woken: list[int] = []
        await queue.accept(message(LANE))
        queue.claim_lane(LANE)
        queue.unclaim(LANE, clock.time() + 300)
        await queue.flush()
        assert clock.time() + 300 == queue.next_wake()
        queue.on_wake = lambda: woken.append(1)
        await queue.accept(message(LANE))
        assert (clock.time() + 300, []) == (queue.next_wake(), woken)
        assert await queue.retry(Filter(lane=LANE)) == 2
        assert (clock.time(), [1]) == (queue.next_wake(), woken)


async def test_giving_a_lane_back_wakes(tmp_path: Path) -> None:
    """It may be due at once: whoever sleeps until next_wake() has to know."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        woken: list[int] = []
        queue.claim_lane(LANE)
        await queue.accept(message(LANE))
        assert queue.next_wake() is None
        queue.on_wake = lambda: woken.append(1)
        queue.unclaim(LANE)
        await queue.flush()
        assert ([1], clock.time()) == (woken, queue.next_wake())


async def test_a_restart_offers_postponed_and_claimed_lanes(tmp_path: Path) -> None:
    """What a lane was waiting for is not known any more after a start."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        for lane in ("postponed", "claimed"):
            await queue.accept(message(lane))
            queue.claim_lane(lane)
        queue.unclaim("postponed", clock.time() + 300)
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        assert {"postponed", "claimed"} == set(queue.claim(5, clock.time()))


async def test_hooks_tell_about_new_work(tmp_path: Path) -> None:
    """on_due for a claimed lane; on_wake when an unclaimed one is due before what next_wake() said."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        told: list[str] = []
        queue.on_due = told.append
        queue.on_wake = lambda: told.append("wake")
        queue.claim_lane("claimed")
        await queue.accept(message("claimed"))
        assert told == ["claimed"]
        await queue.accept(message("other"))
        assert told == ["claimed", "wake"]
        await queue.accept(message("other"))
        await queue.accept(message("third"))
        assert told == ["claimed", "wake"]
        assert queue.claim(5, clock.time()) == ["other", "third"]
        assert queue.next_wake() is None
        await queue.accept(message("fourth"))
        assert told == ["claimed", "wake", "wake"]


async def test_a_claim_does_not_hide_what_comes_between(tmp_path: Path) -> None:
    """next_wake() spoke of a lane that is claimed since; one due after it and before all others wakes."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        woken: list[int] = []
        await queue.accept(message("first"))
        assert queue.next_wake() == clock.time()
        assert queue.claim(1, clock.time()) == ["first"]
        queue.on_wake = lambda: woken.append(1)
        clock.advance(1)
        await queue.accept(message("second"))
        assert woken == [1]


async def test_a_postponement_of_weeks_is_a_lie(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        await queue.accept(message(LANE))
        queue.claim_lane(LANE)
        queue.unclaim(LANE, clock.time() + 30 * 86400)
        await queue.flush()
        assert queue.claim(1, clock.time()) == [LANE]


async def test_settles_on_their_way_count_for_the_next_due(tmp_path: Path) -> None:
    """Also when they are so many that they need more than one transaction."""
    clock = FakeClock()
    seen = Dues()
    async with opened(tmp_path / "spool", observer=seen, now=clock.time) as queue:
        leased = leasing(queue)
        queue.claim_lane(LANE)
        await asyncio.gather(*(queue.accept(message(LANE)) for _ in range(600)))
        for entry in leased[:-1]:
            queue.settle(entry, entry.recipients, due=clock.time() + 500)
        queue.settle(leased[-1], leased[-1].recipients, due=clock.time() + 5)
        assert queue.next_due(LANE) == clock.time() + 5
        seen.queue = queue
        await queue.flush()
        assert len(seen.dues) >= 2
        assert set(seen.dues) == {clock.time() + 5}


class Dues(Recorder):
    """Asks for the next due after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Queue | None = None
        self.dues: list[float | None] = []

    def committed(self, seconds: float, entries: int) -> None:
        if self.queue is not None:
            self.dues.append(self.queue.next_due(LANE))


async def test_a_claimed_lane_costs_one_row(tmp_path: Path) -> None:
    """A lane without waiting entries has no row, so lanes that come and go leave nothing behind."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        for number in range(20):
            await queue.accept(message(f"lane{number}"))
        lanes = queue.claim(20, 4e9)
        for lane in lanes:
            for entry in await queue.take(lane, 5):
                queue.settle(entry)
            queue.unclaim(lane)
        await queue.flush()
        assert await queue.lanes() == []
    with sqlite3.connect(spool / "queue.db") as db:
        assert db.execute("SELECT count(*) FROM lane").fetchone()[0] == 0
    db.close()


async def test_lists_of_lanes_include_those_whose_mail_is_all_out(tmp_path: Path) -> None:
    """By name, paged, with their leased entries."""
    async with opened(tmp_path / "spool") as queue:
        queue.admit = lambda lane: lane in ("b", "d")
        for lane in "abcde":
            await queue.accept(message(lane))
        first = await queue.lanes(limit=3)
        assert [tally.lane for tally in first] == ["a", "b", "c"]
        assert {State.ACTIVE} == set(first[1].states)
        assert [tally.lane for tally in await queue.lanes(after="c", limit=3)] == ["d", "e"]


async def test_a_million_due_rows_stand_in_nobodys_way(tmp_path: Path) -> None:
    """Every look-up of the schedule is answered by an index, whatever else is in the queue."""
    async with opened(tmp_path / "spool") as queue:
        queue.claim_lane(LANE)
        await asyncio.gather(*(queue.accept(message(LANE)) for _ in range(500)))
        steps = [0]
        db = queue._database.writer
        db.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 1)
        await queue.take(LANE, 1)
        queue.next_due(LANE)
        queue.next_wake()
        queue.claim(5, 4e9)
        queue.stats()
        queue.lane_tally(LANE)
        few = steps[0]
        db.set_progress_handler(None, 1)
        await asyncio.gather(*(queue.accept(message(LANE)) for _ in range(2500)))
        steps[0] = 0
        db.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 1)
        await queue.take(LANE, 1)
        queue.next_due(LANE)
        queue.next_wake()
        queue.claim(5, 4e9)
        queue.stats()
        queue.lane_tally(LANE)
        db.set_progress_handler(None, 1)
        assert steps[0] <= few * 1.1


async def test_a_thousand_lanes_stand_in_nobodys_way(tmp_path: Path) -> None:
    """An accept, a take, a settle, a lane that wakes up, a look at the numbers: each costs the same."""
    async with opened(tmp_path / "spool") as queue:
        await asyncio.gather(*(queue.accept(message(f"mx:d{number}.example")) for number in range(5)))
        await steps_of_a_turn(queue)
        few = await steps_of_a_turn(queue)
        await asyncio.gather(*(queue.accept(message(f"mx:e{number}.example")) for number in range(1500)))
        assert await steps_of_a_turn(queue) <= few * 1.1


async def steps_of_a_turn(queue: Queue) -> int:
    """Steps of SQLite's machine while one message comes and is deferred."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    queue._database.writer.set_progress_handler(step, 1)
    await queue.accept(message(LANE))
    queue.claim_lane(LANE)
    for entry in await queue.take(LANE, 1):
        queue.settle(entry, entry.recipients, due=time.time() + 60)
    await queue.flush()
    queue.unclaim(LANE)
    queue.next_wake()
    for lane in queue.claim(1, time.time()):
        queue.unclaim(lane)
    queue.stats()
    queue.lane_tally(LANE)
    await queue.flush()
    queue._database.writer.set_progress_handler(None, 1)
    return steps


async def test_what_is_given_back_and_due_is_told_to_whoever_has_the_lane(tmp_path: Path) -> None:
    """It need not be the holder that asks for the lane's entries now."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        await asyncio.gather(queue.accept(message("a")), queue.accept(message("b")))
        told: list[str] = []
        queue.on_due = told.append
        queue.claim_lane("a")
        queue.claim_lane("b")
        first, second = leased
        queue.settle(first, first.recipients, counted=False)
        queue.settle(second, second.recipients, due=time.time() + 60)
        await queue.flush()
        assert told == ["a"]
