"""mailqueue: the write-ahead log, checkpoints, and the thread that syncs."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from fakes.spool import Recorder, message, opened

from mailqueue import (
    Filter,
    Options,
    QueueFailed,
    State,
    message_name,
)

MIB = 2**20


async def test_the_log_does_not_grow_without_bound(tmp_path: Path) -> None:
    """Under constant load, with searches running all the time, it is folded in and begun anew."""
    spool = tmp_path / "spool"
    async with opened(spool, Options(reserve=0, ballast=0, checkpoint_bytes=MIB)) as queue:
        stop = False

        async def search() -> int:
            count = 0
            while not stop:
                await queue.search(Filter(recipient="nobody"))
                count += 1
            return count

        searching = asyncio.ensure_future(search())
        for _ in range(60):
            await asyncio.gather(*(queue.accept(message(content=b"x" * 10_000)) for _ in range(50)))
        stop = True
        assert await searching > 10
        assert (spool / "queue.db-wal").stat().st_size < 6 * MIB
        assert queue.stats()[State.INCOMING].entries == 3000


async def test_the_length_of_the_log_is_known(tmp_path: Path) -> None:
    """Frames in use, not the length of the file: it grows with commits and begins anew at a checkpoint."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        log, file = queue._database.log, spool / "queue.db-wal"
        for _ in range(5):
            await queue.accept(message(content=bytes(50_000)))
            assert 0 < file.stat().st_size - log.size() <= 32
        longest = log.size()
        queue._database.checkpoint()
        assert log.size() < longest / 4
        assert file.stat().st_size > longest
        await queue.accept(message(content=bytes(50_000)))
        assert 50_000 < log.size() < longest


async def test_reads_go_on_during_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the thread has the connection, the loop reads through the other one, and writes wait."""
    async with opened(tmp_path / "spool", Options(reserve=0, ballast=0, checkpoint_bytes=1)) as queue:
        database = queue._database
        began, go = threading.Semaphore(0), threading.Semaphore(0)
        real = database.checkpoint

        def slow() -> None:
            began.release()
            go.acquire()
            real()

        monkeypatch.setattr(database, "checkpoint", slow)
        name = message_name(await queue.accept(message("a", content=b"hello")))
        await asyncio.to_thread(began.acquire)
        statements: list[str] = []
        database.writer.set_trace_callback(statements.append)
        assert queue.next_wake() is not None
        assert (queue.stats()[State.INCOMING].entries, await queue.read_content(name)) == (1, b"hello")
        waiting = asyncio.ensure_future(queue.accept(message("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (waiting.done(), statements) == (False, [])
        database.writer.set_trace_callback(None)
        go.release(100)
        await waiting


async def test_a_failed_checkpoint_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its syncs count like any other."""
    async with opened(tmp_path / "spool", Options(reserve=0, ballast=0, checkpoint_bytes=1)) as queue:
        failed = asyncio.get_running_loop().create_future()
        queue.on_failed = failed.set_result
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC

        def broken() -> None:
            raise error

        monkeypatch.setattr(queue._database, "checkpoint", broken)
        await queue.accept(message())
        assert error is await failed
        with pytest.raises(QueueFailed):
            await queue.accept(message())


async def test_another_writer_is_waited_for(tmp_path: Path) -> None:
    """Somebody with a database shell in the middle of a transaction: reported, and tried again."""
    reported = asyncio.Event()

    class Waiting(Recorder):
        def spool_error(self, operation: str, error: BaseException) -> None:
            super().spool_error(operation, error)
            reported.set()

    seen = Waiting()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        other = sqlite3.connect(tmp_path / "spool" / "queue.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(queue.accept(message()))
        await reported.wait()
        assert not waiting.done()
        other.execute("ROLLBACK")
        await waiting
        other.close()
        assert (seen.errors[0][0], str(seen.errors[0][1])[-6:]) == ("write", "locked")


async def test_an_observer_that_raises_disturbs_nothing(tmp_path: Path) -> None:
    class Broken(Recorder):
        def committed(self, seconds: float, entries: int) -> None:
            raise RuntimeError("boom")

    async with opened(tmp_path / "spool", observer=Broken()) as queue:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["message"])
        )
        await queue.accept(message())
        assert reported == ["the observer of the mail queue failed"]


async def test_a_busy_loop_does_not_starve_the_sync(tmp_path: Path) -> None:
    """The thread that syncs gets the interpreter although the loop never rests and never has to let go.

    Counted in turns of the loop: 5 to 15 a sync, also where the machine has no time for either of them; a
    thread that is starved waits for hundreds.
    """
    loop = asyncio.get_running_loop()
    before = sys.getswitchinterval()
    busy, turns, syncs = True, 0, 100

    def burn() -> None:
        nonlocal turns
        turns += 1
        for _ in range(20_000):
            pass
        if busy:
            loop.call_soon(burn)

    async with opened(tmp_path / "spool") as queue:
        sys.setswitchinterval(60)
        try:
            burn()
            for _ in range(syncs):
                await queue.accept(message())
        finally:
            busy = False
            sys.setswitchinterval(before)
    assert turns < 40 * syncs
