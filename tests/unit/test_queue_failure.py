"""mailqueue: a failed sync is final, a failed content file is one message's trouble, damage is looked at."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.spool import SMALL, Recorder, everything, leasing, message, opened

from mailqueue import (
    NoSpace,
    Options,
    Queue,
    QueueFailed,
    durable,
)
from mailqueue.lock import Lock
from mailqueue.schema import PAGE_SIZE
from mailqueue.transaction import Transaction


class BadDisk:
    """A sync that fails from now on, and counts how often it was tried."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tries = 0

    def sync(self, _: object) -> None:
        self.tries += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
async def test_after_a_failed_sync_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever its errno: all who wait are refused, the sync is not tried again, the spool is not clean.
    The log is left for the next process: to fold it in would trust what may not be on the disk."""
    spool = tmp_path / "spool"
    disk = BadDisk(number)
    queue = await Queue.open(spool, SMALL)
    failed: list[BaseException] = []
    queue.on_failed = failed.append
    leased = leasing(queue)
    await queue.accept(message("mx:a"))
    monkeypatch.setattr(durable, "sync_log", disk.sync)
    results = await asyncio.gather(*(queue.accept(message()) for _ in range(3)), return_exceptions=True)
    assert [QueueFailed] * 3 == [type(result) for result in results]
    with pytest.raises(QueueFailed):
        await queue.accept(message())
    with pytest.raises(QueueFailed):
        await queue.take("mx:a", 1)
    queue.settle(leased[0])
    await queue.close()
    assert (1, [number], False) == (
        disk.tries,
        [error.errno for error in failed if isinstance(error, OSError)],
        (spool / "clean").exists(),
    )  # fmt: skip
    assert (spool / "queue.db-wal").exists()
    monkeypatch.undo()
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        assert leased[0].message in {row.id >> 10 for row in await everything(queue)}


async def test_a_message_that_came_during_the_failing_sync_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not written, and nobody is left waiting."""
    began, go = threading.Semaphore(0), threading.Semaphore(0)

    def sync(_: object) -> None:
        began.release()
        go.acquire()
        raise OSError(errno.EIO, "bad")

    async with opened(tmp_path / "spool") as queue:
        monkeypatch.setattr(durable, "sync_log", sync)
        first = asyncio.ensure_future(queue.accept(message()))
        await asyncio.to_thread(began.acquire)
        second = asyncio.ensure_future(queue.accept(message()))
        await asyncio.sleep(0)
        go.release()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [QueueFailed] * 2 == [type(result) for result in results]


async def test_everybody_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What succeeded before the failure is not told again, and a late success does not follow a failure."""
    told: list[tuple[int, str]] = []

    def note(number: int) -> Callable[[int, Exception | None], None]:
        return lambda _, error: told.append((number, type(error).__name__))

    began, go = threading.Semaphore(0), threading.Semaphore(0)
    async with opened(tmp_path / "spool") as queue:
        queue.submit(message(), note(1))
        await queue.flush()

        def late(_: object) -> None:
            began.release()
            go.acquire()

        monkeypatch.setattr(durable, "sync_log", late)
        queue.submit(message(), note(2))
        await asyncio.to_thread(began.acquire)
        queue._commit.fail(OSError(errno.EIO, "the directory, say"))
        go.release()
        await queue._commit.drain()
        assert told == [(1, "NoneType"), (2, "QueueFailed")]


async def test_a_failure_between_commits_concerns_nobody(tmp_path: Path) -> None:
    """What is durable stays acknowledged."""
    told: list[Exception | None] = []
    async with opened(tmp_path / "spool") as queue:
        queue.submit(message(), lambda _, error: told.append(error))
        await queue.flush()
        queue._commit.fail(OSError(errno.EIO, "the directory, say"))
        assert told == [None]


async def test_damage_found_by_a_read_is_final(tmp_path: Path) -> None:
    """Loading a message from a page that is no page: on_failed, and a closer look at the next start."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        await queue.accept(message("a"))
        start = queue._database.writer.execute("SELECT rootpage FROM sqlite_master WHERE name='message'")
        page = (start.fetchone()[0] - 1) * PAGE_SIZE
    with (spool / "queue.db").open("r+b") as file:
        file.seek(page)
        file.write(b"\xa5" * PAGE_SIZE)
    async with opened(spool) as queue:
        failed: list[BaseException] = []
        queue.on_failed = failed.append
        queue.claim_lane("a")
        (entry,) = await queue.take("a", 1)
        with pytest.raises(QueueFailed, match="malformed"):
            await queue.load(entry)
        assert len(failed) == 1
    assert (spool / "suspect").exists()


async def test_a_failed_sync_of_the_directory_is_as_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that may not be on disk stays doubtful for ever."""
    disk = BadDisk(errno.EIO)
    async with opened(tmp_path / "spool") as queue:
        failed: list[BaseException] = []
        queue.on_failed = failed.append
        monkeypatch.setattr(durable, "sync_directory", disk.sync)
        content = queue.content()
        content.write(bytes(300_000))
        for body in (content, b"small"):
            with pytest.raises(QueueFailed):
                await queue.accept(message(content=body))
        assert (disk.tries, len(failed)) == (1, 1)


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, QueueFailed)]
)
@pytest.mark.parametrize("where", ["write_parts", "sync_file", "create"])
async def test_a_content_file_that_fails_is_one_messages_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception], where: str
) -> None:
    """That message is refused with nothing left behind; the next is taken."""
    spool = tmp_path / "spool"
    disk = BadDisk(number)
    async with opened(spool) as queue:
        monkeypatch.setattr(durable, where, lambda *_: disk.sync(None))
        content = queue.content()
        for _ in range(20):
            content.write(bytes(100_000))
        with pytest.raises(expected):
            await queue.accept(message(content=content))
        assert (number, 0) == (content.error.errno if content.error else 0, content.pending)
        monkeypatch.undo()
        await queue.accept(message())
    assert list((spool / "content").iterdir()) == []


async def test_a_failure_during_a_checkpoint_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the schedule still has something to write, which is never written then."""
    began, go = threading.Semaphore(0), threading.Semaphore(0)

    def checkpoint() -> None:
        began.release()
        go.acquire()

    async with opened(tmp_path / "spool") as queue:
        monkeypatch.setattr(queue._database, "checkpoint", checkpoint)
        queue._commit._checkpoint(vacuum=False)
        await asyncio.to_thread(began.acquire)
        queue.claim_lane("a")
        queue._commit.fail(OSError(errno.EIO, "the directory, say"))
        waiting = asyncio.ensure_future(queue._commit.drain())
        await asyncio.sleep(0)
        go.release()
        await asyncio.wait_for(waiting, 10)


async def until(happened: Callable[[], bool]) -> None:
    """Turns of the loop until something has happened."""
    for _ in range(10_000):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


async def test_a_log_that_cannot_be_looked_at_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that dies between a sync and the next look at the log: whoever waits is told, and on_failed."""
    began, go = threading.Semaphore(0), threading.Semaphore(0)

    def sync(_: object) -> None:
        began.release()
        go.acquire()

    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        failed: list[BaseException] = []
        queue.on_failed = failed.append
        monkeypatch.setattr(durable, "sync_log", sync)
        first = asyncio.ensure_future(queue.accept(message()))
        await asyncio.to_thread(began.acquire)
        second = asyncio.ensure_future(queue.accept(message()))
        await asyncio.sleep(0)
        sick = BadDisk(errno.EIO)
        monkeypatch.setattr(queue._database.log, "size", lambda: sick.sync(None))
        go.release()
        assert await first
        with pytest.raises(QueueFailed):
            await second
        assert ([operation for operation, _ in seen.errors], len(failed)) == (["read"], 1)


async def test_the_look_in_quiet_times_is_as_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "spool") as queue:
        failed: list[BaseException] = []
        queue.on_failed = failed.append
        await queue.accept(message())
        sick = BadDisk(errno.EIO)
        monkeypatch.setattr(queue._database.log, "size", lambda: sick.sync(None))
        monkeypatch.setattr(queue._commit, "_last_write", -1e9)
        queue._commit._quiet()
        assert (sick.tries, len(failed)) == (1, 1)


async def test_a_disk_that_does_not_say_what_is_free_is_not_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was free before stands, and a lost ballast is no exception; the next write tells."""
    spool = tmp_path / "spool"
    async with opened(spool, Options(reserve=0, ballast=4096)) as queue:
        room = queue._parts.room
        before = room.look()
        monkeypatch.setattr("mailqueue.space._LOOK_EVERY", 0.0)
        monkeypatch.setattr(room, "_spool", spool / "format" / "nothing")
        assert room.look() == before
        monkeypatch.setattr(room, "_ballast", spool / "format" / "ballast")
        assert not room.give_up_ballast()
        assert not room.is_full_error(sqlite3_error(sqlite3.SQLITE_IOERR))
        room.restore_ballast()
        assert room.look().free_bytes == before.free_bytes


def test_a_lock_on_a_dead_disk_is_let_go(tmp_path: Path) -> None:
    """That the owner's process id cannot be wiped out is no error, and the next one gets the lock."""
    Lock.acquire(tmp_path).release()
    descriptor = os.open(tmp_path / "lock", os.O_RDONLY)  # to truncate this fails
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    Lock(descriptor).release()
    Lock.acquire(tmp_path).release()


def sqlite3_error(number: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("refused")
    error.sqlite_errorcode = number
    return error


def refusing(number: int) -> Callable[..., Transaction]:
    """A Writer.write that SQLite refuses with this code."""

    def write(*_: object, **__: object) -> Transaction:
        raise sqlite3_error(number)

    return write


async def test_no_checkpoint_follows_a_failure_while_the_writing_was_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailqueue.commit._BUSY_PAUSE", 0.0)
    async with opened(tmp_path / "spool", Options(reserve=0, ballast=0, checkpoint_bytes=0)) as queue:
        await queue.accept(message())
        checkpoints: list[int] = []
        monkeypatch.setattr(queue._database, "checkpoint", lambda: checkpoints.append(1))
        monkeypatch.setattr(queue._writer, "write", refusing(sqlite3.SQLITE_BUSY))
        queue.submit(message(), lambda *_: None)
        await until(lambda: queue._commit._paused is not None)
        queue._commit.fail(OSError(errno.EIO, "the directory, say"))
        await until(lambda: queue._commit._paused is None)
        await queue._commit.drain()
        assert checkpoints == []


@pytest.mark.parametrize("number", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY])
async def test_a_queue_that_cannot_be_written_can_be_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What was settled last is not recorded: after the next start it counts as in flight."""
    monkeypatch.setattr("mailqueue.commit._LAST_PATIENCE", 0.0)
    spool = tmp_path / "spool"
    queue = await Queue.open(spool, SMALL)
    leased = leasing(queue)
    await queue.accept(message())
    monkeypatch.setattr(queue._writer, "write", refusing(number))
    queue.settle(leased[0])
    await asyncio.wait_for(queue.close(), 10)
    seen = Recorder()
    async with opened(spool, observer=seen):
        assert seen.starts == [(1, 0, 0)]
