"""mailqueue: operators hold, release, retry, drop and search."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.spool import SMALL, Recorder, everything, leasing, message, opened

from mailqueue import (
    Filter,
    Message,
    OfflineQueue,
    Options,
    Queue,
    QueueError,
    Recipient,
    SpoolLocked,
    SpoolUnusable,
    State,
    durable,
    message_name,
)

DAY = 86400.0


async def states(queue: Queue) -> list[str]:
    return [row.state.name for row in await everything(queue)]


async def test_hold_and_release(tmp_path: Path) -> None:
    """Held mail is not offered; released it is due now, fresh mail as fresh, tried mail as deferred."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message("a"))
        queue.settle(leased[0], leased[0].recipients, due=clock.time() + 500)
        queue.admit = lambda lane: False
        await queue.accept(message("a"))
        assert await queue.hold(Filter()) == 2
        assert await queue.hold(Filter()) == 0
        assert (
            await states(queue), queue.stats()[State.HELD].entries, queue.next_wake()
        ) == (["HELD", "HELD"], 2, None)  # fmt: skip
        assert await queue.retry(Filter()) == 0
        clock.advance(1)
        assert await queue.release(Filter()) == 2
        assert await states(queue) == ["DEFERRED", "INCOMING"]
        assert {clock.time()} == {row.due for row in await everything(queue)}
        assert queue.claim(5, clock.time()) == ["a"]
        assert len(await queue.take("a", 5)) == 2


async def test_retry_makes_due_now_and_tells(tmp_path: Path) -> None:
    """A claimed lane hears of it by on_due."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        told: list[str] = []
        queue.on_due = told.append
        queue.claim_lane("a")
        await queue.accept(message("a"))
        queue.settle(leased[0], leased[0].recipients, due=clock.time() + 500)
        assert await queue.retry(Filter(states=frozenset({State.DEFERRED}))) == 1
        assert told == ["a"]
        assert len(await queue.take("a", 5)) == 1


async def test_operators_see_what_was_asked_for_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settle that waits for the sync before it is seen by the retry that comes after it."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        await queue.accept(message("a"))
        go = threading.Semaphore(0)
        monkeypatch.setattr(durable, "sync_log", lambda _: go.acquire())
        queue.submit(message("b"), lambda number, error: None)
        await asyncio.sleep(0)
        queue.settle(leased[0], leased[0].recipients, due=4e9)
        retrying = asyncio.ensure_future(queue.retry(Filter(states=frozenset({State.DEFERRED}))))
        await queue.search(Filter())
        await queue.search(Filter())
        go.release(100)
        assert await retrying == 1


async def test_drop_removes_rows_and_files(tmp_path: Path) -> None:
    """Whatever the state; the content file goes too."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content = queue.content()
        content.write(bytes(300_000))
        await queue.accept(message("a", "b", content=content))
        await queue.accept(message("b"))
        await queue.hold(Filter(lane="a"))
        assert await queue.drop(Filter(lane="b")) == 2
        assert (await states(queue), len(list((spool / "content").iterdir()))) == (["HELD"], 1)
        assert await queue.drop(Filter()) == 1
        await queue.flush()
        assert all(tally.entries == tally.bytes == 0 for tally in queue.stats().values())
    assert list((spool / "content").iterdir()) == []


@pytest.mark.parametrize(
    ("actions", "counts", "expected"),
    [
        (["hold"], [1], ["HELD"]),
        (["hold", "hold"], [1, 0], ["HELD"]),
        (["hold", "release"], [1, 1], ["DEFERRED"]),
        (["drop"], [1], []),
        (["hold", "drop"], [1, 1], []),
        (["drop", "release"], [1, 0], []),
        (["retry"], [0], ["DEFERRED"]),
    ],
)
async def test_leased_entries_are_marked(
    tmp_path: Path, actions: list[str], counts: list[int], expected: list[str]
) -> None:
    """What an operator says about a leased entry takes effect when it comes back undelivered."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        await queue.accept(message("a"))
        assert counts == [await getattr(queue, action)(Filter()) for action in actions]
        assert await states(queue) == ["ACTIVE"]
        queue.settle(leased[0], leased[0].recipients, due=1.0)
        await queue.flush()
        assert expected == await states(queue)
        assert len(expected) == sum(tally.entries for tally in queue.stats().values())


async def test_a_marked_entry_that_is_delivered_is_delivered(tmp_path: Path) -> None:
    """Held or dropped while under way: if it arrives, it has arrived; the next entry is not affected."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        await queue.accept(message("a"))
        await queue.hold(Filter())
        queue.settle(leased[0])
        await queue.accept(message("a"))
        queue.settle(leased[1], leased[1].recipients, due=1.0)
        await queue.flush()
        assert await states(queue) == ["DEFERRED"]


async def test_operators_work_in_chunks(tmp_path: Path) -> None:
    """Over a thousand entries: several commits, and mail that comes in meanwhile is not meant."""
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        await asyncio.gather(*(queue.accept(message("a")) for _ in range(1201)))
        before = len(seen.commits)
        holding = asyncio.ensure_future(queue.hold(Filter()))
        await asyncio.sleep(0)
        late = await queue.accept(message("late"))
        assert await holding == 1201
        assert len(seen.commits) - before >= 3
        rows = await queue.search(Filter(message=message_name(late)))
        assert [row.state for row in rows] == [State.INCOMING]


MAIL: Sequence[tuple[str, str, str]] = (  # sender, recipient, lane
    ("Alice@Example.com", "bob@dest.test", "mx:dest.test"),
    ("", "carol@dest.test", "mx:dest.test"),
    ("alice@example.com", "o_dd%name@other.test", "mx:other.test"),
    ("dave@sub.example.com", '"quo\\"ted"@other.test', "route:x"),
    ("é@exämple.com", "Ü@dest.test", "route:x"),
)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), [0, 1, 2, 3, 4]),
        (Filter(sender="alice@EXAMPLE.com"), [0, 2]),
        (Filter(sender="@example.com"), [0, 2]),
        (Filter(sender="ice@example.com"), []),
        (Filter(sender="<>"), [1]),
        (Filter(sender="É@EXÄMPLE.com"), [4]),
        (Filter(recipient="BOB@dest.test"), [0]),
        (Filter(recipient="ob@dest.test"), []),
        (Filter(recipient="@dest.test"), [0, 1, 4]),
        (Filter(recipient="o_dd%name@other.test"), [2]),
        (Filter(recipient="oxdd%name@other.test"), []),
        (Filter(recipient='"quo\\"ted"@other.test'), [3]),
        (Filter(recipient="ü@dest.test"), [4]),
        (Filter(lane="mx:dest.test"), [0, 1]),
        (Filter(lane="mx:dest.test", sender="<>"), [1]),
        (Filter(states=frozenset({State.HELD})), [1]),
        (Filter(states=frozenset({State.ACTIVE})), [2]),
        (Filter(states=frozenset({State.HELD, State.ACTIVE})), [1, 2]),
        (Filter(lane="mx:other.test", states=frozenset({State.ACTIVE})), [2]),
        (Filter(lane="mx:dest.test", states=frozenset({State.ACTIVE})), []),
        (Filter(older_than=2.5 * DAY), [0, 1]),
        (Filter(younger_than=2.5 * DAY), [2, 3, 4]),
        (Filter(older_than=1.5 * DAY, younger_than=3.5 * DAY), [1, 2]),
    ],
)
async def test_search(tmp_path: Path, wanted: Filter, expected: list[int]) -> None:
    """Every field narrows; addresses match whole or by domain, in any case. One mail a day, up to today."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        ids = []
        for sender, recipient, lane in MAIL:
            clock.advance(DAY)
            queue.admit = lambda lane: lane == "mx:other.test"
            ids.append(await queue.accept(Message(sender, {lane: [Recipient(recipient)]}, b"x")))
        await queue.hold(Filter(sender="<>"))
        found = [row.message for row in await queue.search(wanted)]
        assert [message_name(ids[place]) for place in expected] == found
        by_id = await queue.search(Filter(message=message_name(ids[3])))
        assert [message_name(ids[3])] == [row.message for row in by_id]


async def test_search_goes_by_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a page has to look at far more rows than it finds, over several indexes."""
    monkeypatch.setattr("mailqueue.search._STEP", 7)
    async with opened(tmp_path / "spool") as queue:
        queue.admit = lambda lane: lane == "b"
        for number in range(60):
            lane = "ab"[number % 2]
            await queue.accept(message(lane, to=f"r{number % 10}@example.net"))
        wanted = Filter(recipient="r4@example.net")
        pages = []
        after = 0
        while rows := await queue.search(wanted, after, 4):
            pages.append(len(rows))
            after = rows[-1].id
        assert pages == [4, 2]
        both = await queue.search(Filter(states=frozenset({State.INCOMING, State.ACTIVE})), limit=100)
        assert [row.id for row in await everything(queue)] == [row.id for row in both]


async def test_showing_what_is_not_there(tmp_path: Path) -> None:
    """An unknown id is None, a wrong one a ValueError."""
    async with opened(tmp_path / "spool") as queue:
        assert await queue.read_content("1abc") is None
        with pytest.raises(ValueError, match="not a queue id"):
            await queue.search(Filter(message="no such"))


def test_offline(tmp_path: Path) -> None:
    """The same calls without a loop; nothing is created; a running queue is in the way; it closes cleanly."""
    spool = tmp_path / "spool"
    with pytest.raises(SpoolUnusable, match="no spool"):
        OfflineQueue(spool)
    assert not spool.exists()

    async def fill() -> None:
        async with opened(spool) as queue:
            for lane in "ab":
                await queue.accept(message(lane, content=b"hello"))
            with pytest.raises(SpoolLocked, match="in use by process"):
                await asyncio.to_thread(OfflineQueue, spool, SMALL)

    asyncio.run(fill())
    with OfflineQueue(spool, SMALL) as queue:
        rows = list(queue.rows(Filter()))
        assert ["a", "b"] == [row.lane for row in rows] == [tally.lane for tally in queue.lanes()]
        assert queue.read_content(rows[0].message) == b"hello"
        assert (
            queue.hold(Filter(lane="a")), queue.retry(Filter()), queue.drop(Filter(lane="b"))
        ) == (1, 1, 1)  # fmt: skip
        assert queue.stats()[State.HELD].entries == 1
        assert queue.lane_tally("a").states[State.HELD].entries == 1
        assert queue.release(Filter()) == 1
    assert (spool / "clean").exists()
    with OfflineQueue(spool, Options(reserve=0)) as queue:
        assert [row.state for row in queue.search(Filter())] == [State.INCOMING]


async def test_damaged_content_is_not_shown(tmp_path: Path) -> None:
    """The operator is told, not given something else."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content = queue.content()
        content.write(bytes(300_000))
        name = message_name(await queue.accept(message(content=content)))
        (spool / "content" / name).write_bytes(b"short")
        with pytest.raises(QueueError, match="5 octets instead of 300000"):
            await queue.read_content(name)
