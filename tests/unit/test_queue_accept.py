"""mailqueue: a message comes in, is leased, is settled; content small and large."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from fakes.clock import FakeClock
from fakes.spool import SMALL, Recorder, everything, leasing, message, opened

from mailqueue import (
    Content,
    Entry,
    Filter,
    Message,
    Options,
    Queue,
    QueueClosed,
    QueueError,
    Recipient,
    State,
    durable,
    message_name,
    message_number,
)

LARGE = 700_000


def content_files(spool: Path) -> list[str]:
    return sorted(path.name for path in (spool / "content").iterdir())


def large(queue: Queue, size: int = LARGE, piece: int = 65536) -> tuple[Content, bytes]:
    """A content written in pieces, and what was written."""
    data = os.urandom(size)
    content = queue.content()
    for start in range(0, size, piece):
        content.write(data[start : start + piece])
    return content, data


async def test_a_message_waits_until_it_is_leased(tmp_path: Path) -> None:
    """Nobody admits it: it is INCOMING, counted by state and by lane, and found by a search."""
    async with opened(tmp_path / "spool") as queue:
        number = await queue.accept(message("mx:a", "mx:b", content=b"12345"))
        stats = queue.stats()
        rows = await everything(queue)
        lanes = await queue.lanes()
    assert (stats[State.INCOMING].entries, stats[State.INCOMING].bytes) == (2, 10)
    assert [message_name(number)] * 2 == [row.message for row in rows]
    assert [lane.lane for lane in lanes] == ["mx:a", "mx:b"]
    assert {State.INCOMING} == set(lanes[0].states)


async def test_admitted_mail_is_leased_at_once_with_its_content(tmp_path: Path) -> None:
    """admit is asked once a lane; the lease holds meta and content; done comes first, in the same turn."""
    async with opened(tmp_path / "spool") as queue:
        events: list[tuple[str, object]] = []

        def admit(lane: str) -> bool:
            events.append(("admit", lane))
            return lane == "mx:a"

        queue.admit = admit
        queue.on_leased = lambda entry: events.append(("leased", entry))
        waiting = asyncio.Event()

        def done(number: int, error: Exception | None) -> None:
            events.append(("done", error))
            waiting.set()

        number = queue.submit(message("mx:a", "mx:b", content=b"hello"), done)
        assert events == []
        await waiting.wait()
        assert [kind for kind, _ in events] == ["admit", "admit", "done", "leased"]
        entry = events[3][1]
        assert isinstance(entry, Entry)
        assert (number, "mx:a", True, b"hello", b"meta") == (
            entry.message, entry.lane, entry.fresh, entry.content, entry.meta
        )  # fmt: skip
        assert (queue.stats()[State.ACTIVE].entries, queue.stats()[State.ACTIVE].bytes) == (1, 5)
        assert queue.stats()[State.INCOMING].entries == 1


async def test_done_follows_a_sync_that_began_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that comes while a sync is under way is not released by that sync, but by the next."""
    async with opened(tmp_path / "spool") as queue:
        began, go = threading.Semaphore(0), threading.Semaphore(0)
        syncs: list[int] = []
        real = durable.sync_log

        def slow(descriptor: int) -> None:
            began.release()
            go.acquire()
            real(descriptor)
            syncs.append(1)

        monkeypatch.setattr(durable, "sync_log", slow)
        first = asyncio.ensure_future(queue.accept(message()))
        await asyncio.to_thread(began.acquire)
        second = asyncio.ensure_future(queue.accept(message()))
        go.release()
        await first
        await asyncio.to_thread(began.acquire)
        assert (len(syncs), second.done()) == (1, False)
        go.release()
        await second
        monkeypatch.undo()


async def test_what_waits_shares_a_commit(tmp_path: Path) -> None:
    """Everything submitted in one turn of the loop is one transaction and one sync."""
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        await asyncio.gather(*(queue.accept(message()) for _ in range(50)))
        assert seen.commits == [50]


async def test_the_last_lane_takes_the_message_with_it(tmp_path: Path) -> None:
    """The row of the message goes with its last entry, and not before."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        number = await queue.accept(message("mx:a", "mx:b", content=b"x" * 5000))
        name = message_name(number)
        queue.settle(leased[0])
        await queue.flush()
        assert await queue.read_content(name) == b"x" * 5000
        queue.settle(leased[1])
        await queue.flush()
        assert await queue.read_content(name) is None
        assert (queue.stats()[State.ACTIVE].entries, queue.stats()[State.ACTIVE].bytes) == (0, 0)
        assert await everything(queue) == []


async def test_settle_defers_what_remains(tmp_path: Path) -> None:
    """The remaining recipients, with their replies, wait for the due time; the attempt counts."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:a"))
        remaining = [Recipient("c@example.net", "NOTIFY=NEVER", "451 4.2.0 later \u00e9")]
        queue.settle(leased[0], remaining, due=clock.time() + 60)
        await queue.flush()
        (row,) = await everything(queue)
    assert (State.DEFERRED, 1, clock.time() + 60, remaining) == (
        row.state,
        row.attempts,
        row.due,
        row.recipients,
    )


async def test_giving_back_changes_nothing(tmp_path: Path) -> None:
    """counted=False: the state, the due time and the attempts are those from before the lease."""
    clock = FakeClock(wall=1_700_000_000.123)
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:a"))
        queue.settle(leased[0], leased[0].recipients, counted=False)
        await queue.flush()
        (row,) = await everything(queue)
        assert (State.INCOMING, 0, clock.time()) == (row.state, row.attempts, row.due)
        queue.claim_lane("mx:a")
        (again,) = await queue.take("mx:a", 1)
        assert again.fresh
        queue.settle(again, again.recipients, due=clock.time())
        (again,) = await queue.take("mx:a", 1)
        assert (again.fresh, again.attempts) == (False, 1)
        queue.settle(again, again.recipients, counted=False)
        await queue.flush()
        (row,) = await everything(queue)
        assert (row.state, row.attempts) == (State.DEFERRED, 1)


async def test_reports_are_stored_in_the_same_commit(tmp_path: Path) -> None:
    """The bounce is durable in the transaction that ends the recipient; admit applies to it."""
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:a"))
        before = len(seen.commits)
        queue.settle(leased[0], reports=[message("mx:back", content=b"sorry", sender="")])
        await queue.flush()
        assert before + 1 == len(seen.commits)
        assert (leased[1].lane, leased[1].content) == ("mx:back", b"sorry")


async def test_an_entry_can_move_to_another_lane(tmp_path: Path) -> None:
    """After a reload: the entry waits in the new lane, which is told when it is claimed."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        told: list[str] = []
        queue.on_due = told.append
        queue.claim_lane("route:new")
        await queue.accept(message("mx:old"))
        queue.settle(leased[0], leased[0].recipients, counted=False, lane="route:new")
        await queue.flush()
        assert told == ["route:new"]
        (entry,) = await queue.take("route:new", 5)
        assert entry.lane == "route:new"
        assert queue.lane_tally("mx:old").states == {}


async def test_an_entry_is_settled_once(tmp_path: Path) -> None:
    """The second settle is a bug of the caller and says so."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        await queue.accept(message())
        queue.settle(leased[0])
        with pytest.raises(QueueError, match="not leased"):
            queue.settle(leased[0])


async def test_large_content_has_its_own_file(tmp_path: Path) -> None:
    """Streamed to content/<id>, whole before done, gone when forgotten."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        leased = leasing(queue)
        content, data = large(queue)
        number = await queue.accept(message("mx:a", content=content))
        assert (content.message, [message_name(number)]) == (number, content_files(spool))
        assert data == (spool / "content" / message_name(number)).read_bytes()
        assert leased[0].content is None
        loaded = await queue.load(leased[0])
        assert loaded is not None and loaded.path is not None
        assert (data, crc32(data), LARGE) == (loaded.path.read_bytes(), loaded.check, loaded.size)
        assert loaded == queue.load_now(leased[0])
        queue.settle(leased[0])
        await queue.flush()
    assert content_files(spool) == []


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 131072, 131073, 262144, 262145])
async def test_content_of_every_size_comes_back(tmp_path: Path, size: int) -> None:
    """Around every limit: in memory, in the row, in a file."""
    async with opened(tmp_path / "spool") as queue:
        content, data = large(queue, size, piece=1000)
        name = message_name(await queue.accept(message(content=content)))
        stored = await queue.read_content(name)
        assert (size > SMALL.inline_limit) == isinstance(stored, Path)
        assert data == (stored.read_bytes() if isinstance(stored, Path) else stored)


async def test_content_is_on_disk_before_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, directory, log: synced in this order."""
    async with opened(tmp_path / "spool") as queue:
        order: list[str] = []
        for name in ("sync_file", "sync_directory", "sync_log"):
            monkeypatch.setattr(durable, name, recording(order, name, getattr(durable, name)))
        content, _ = large(queue)
        await queue.accept(message(content=content))
        assert order == ["sync_file", "sync_directory", "sync_log"]
        monkeypatch.undo()


def recording(order: list[str], name: str, real: Callable[[object], None]) -> Callable[[object], None]:
    def call(argument: object) -> None:
        order.append(name)
        real(argument)

    return call


async def test_content_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block at a time is under way; pending tells the writer to stop, on_drain to go on."""
    async with opened(tmp_path / "spool") as queue:
        go = threading.Semaphore(0)
        real = durable.write_all
        monkeypatch.setattr(durable, "write_all", lambda fd, data: (go.acquire(), real(fd, data))[1])
        content = queue.content()
        drained = asyncio.Event()
        content.on_drain = drained.set
        for _ in range(10):
            content.write(bytes(65536))
        assert content.pending == 10 * 65536
        go.release()
        await drained.wait()
        assert content.pending < 10 * 65536
        go.release(10)
        await queue.accept(message(content=content))
        monkeypatch.undo()


async def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may take less than it was given."""
    real = os.write
    async with opened(tmp_path / "spool") as queue:
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:1000])))
        content, data = large(queue, 300_000)
        name = message_name(await queue.accept(message(content=content)))
        monkeypatch.undo()
        path = await queue.read_content(name)
        assert isinstance(path, Path) and data == path.read_bytes()


async def test_discarded_content_leaves_nothing(tmp_path: Path) -> None:
    """Also when a block is being written; discarding twice is fine; a submitted content is the queue's."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content, _ = large(queue)
        content.discard()
        content.discard()
        content.write(b"more")
        kept, _ = large(queue)
        name = message_name(await queue.accept(message(content=kept)))
        kept.discard()
        with pytest.raises(ValueError, match="before"):
            queue.submit(message(content=kept), lambda number, error: None)
        with pytest.raises(QueueClosed):
            queue.submit(message(content=content), lambda number, error: None)
    assert [name] == content_files(spool)


async def test_content_kept_in_memory_has_a_budget(tmp_path: Path) -> None:
    """Beyond it a lease comes without content; settled leases make room again."""
    async with opened(tmp_path / "spool", Options(reserve=0, ballast=0, memory=250)) as queue:
        leased = leasing(queue)
        for _ in range(3):
            await queue.accept(message(content=b"x" * 100))
        assert [entry.content is not None for entry in leased] == [True, True, False]
        loaded = queue.load_now(leased[2])
        assert loaded is not None and loaded.data == b"x" * 100
        queue.settle(leased[0])
        await queue.accept(message(content=b"x" * 100))
        assert leased[3].content is not None


@pytest.mark.parametrize(
    "wrong",
    [
        Message("a@b", {}, b""),
        Message("a@b", {"lane": []}, b""),
        Message("a@b", {str(n): [Recipient("x")] for n in range(1001)}, b""),
        Message("a\udc80@b", {"lane": [Recipient("x")]}, b""),
        Message("a@b", {"lane": [Recipient("\udc80")]}, b""),
    ],
)
async def test_what_is_no_message_is_refused_at_once(tmp_path: Path, wrong: Message) -> None:
    """A bug of one caller must not reach a transaction it shares with others."""
    async with opened(tmp_path / "spool") as queue:
        with pytest.raises(ValueError):
            queue.submit(wrong, lambda number, error: None)
        await queue.accept(message())


async def test_a_failing_hook_hurts_nobody_else(tmp_path: Path) -> None:
    """An admit that raises means no; a callback that raises is reported; the rest goes on."""
    async with opened(tmp_path / "spool") as queue:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["message"])
        )
        queue.admit = lambda lane: bool(1 / 0)

        def done(number: int, error: Exception | None) -> None:
            raise RuntimeError("boom")

        queue.submit(message(), done)
        await queue.accept(message())
        assert reported == ["admit failed", "admit failed", "a callback of the mail queue failed"]
        assert queue.stats()[State.INCOMING].entries == 2


async def test_ids_never_repeat_and_never_go_back(tmp_path: Path) -> None:
    """Also when the clock is set back, and after a restart with such a clock."""
    clock = FakeClock()
    ids = []
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        ids += [await queue.accept(message()) for _ in range(3)]
        clock.jump(-86400)
        ids += [await queue.accept(message())]
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        ids += [await queue.accept(message())]
    assert sorted(set(ids)) == ids


async def test_after_close_nothing_is_taken_in(tmp_path: Path) -> None:
    """A submit gets QueueClosed, and close() twice is fine."""
    queue = await Queue.open(tmp_path / "spool", SMALL)
    await queue.close()
    await queue.close()
    with pytest.raises(QueueClosed):
        await queue.accept(message())


async def test_close_waits_for_what_was_submitted(tmp_path: Path) -> None:
    """Small and large: done is called before close returns, and the mail is there at the next start."""
    queue = await Queue.open(tmp_path / "spool", SMALL)
    results: list[Exception | None] = []
    content, _ = large(queue)
    for body in (b"small", content):
        queue.submit(message(content=body), lambda number, error: results.append(error))
    await queue.close()
    assert results == [None, None]
    async with opened(tmp_path / "spool") as queue:
        assert len(await queue.search(Filter())) == 2


@pytest.mark.parametrize("number", [1, 31, 32, 1_700_000_000_000_000, 2**53])
def test_names_of_messages(number: int) -> None:
    """There and back, in capitals too."""
    assert number == message_number(message_name(number)) == message_number(message_name(number).upper())


@pytest.mark.parametrize("name", ["", "u", "1" * 14, "ab!"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a queue id"):
        message_number(name)
