"""mailqueue: the sync in a thread of the C library: told when it is done, whatever becomes of the signal."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.loops import LOOPS, Run, running
from fakes.spool import message

from mailqueue import Options, Queue, aio
from mailqueue.aio import LogSync, log_sync
from mailqueue.commit import GroupCommit

pytestmark = pytest.mark.skipif(aio._library() is None, reason="no glibc with aio_fsync: the worker syncs")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


def made() -> LogSync:
    found = log_sync(asyncio.get_running_loop())
    assert found is not None
    return found


async def synced(sync: LogSync, descriptor: int) -> Exception | None:
    """What `done` was told."""
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    assert sync.begin(descriptor, lambda _, error: told.set_result(error))
    return await told


def test_a_sync_ends_and_its_error_is_told(run: Run, tmp_path: Path) -> None:
    """A pipe cannot be synced."""

    async def scenario() -> None:
        sync = made()
        with (tmp_path / "log").open("wb") as file:
            for _ in range(10):
                file.write(b"x")
                file.flush()
                assert await synced(sync, file.fileno()) is None
        reading, writing = os.pipe()
        error = await synced(sync, writing)
        assert isinstance(error, OSError)
        assert error.errno == errno.EINVAL
        os.close(reading)
        os.close(writing)
        assert not sync.begin(writing, lambda _, __: None)  # closed: nothing was begun
        sync.stop()

    run(scenario())


def test_a_signal_of_somebody_else_ends_nothing(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        sync = made()
        os.kill(os.getpid(), sync._number)
        await asyncio.sleep(0)
        with (tmp_path / "log").open("wb") as file:
            told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
            assert sync.begin(file.fileno(), lambda _, error: told.set_result(error))
            for _ in range(20):
                signal.raise_signal(sync._number)
            assert await told is None
            os.kill(os.getpid(), sync._number)
            await asyncio.sleep(0.01)  # told twice, the future would complain to the loop
        sync.stop()

    run(scenario())


def test_lost_signals_are_not_waited_for(run: Run, tmp_path: Path) -> None:
    """The kernel has no room for one (RLIMIT_SIGPENDING): the loop looks for itself. Where none comes through
    (a filter of system calls) the worker is to sync from then on."""

    async def scenario() -> None:
        sync = made()
        with (tmp_path / "log").open("wb") as file:
            signal.signal(sync._number, signal.SIG_IGN)
            for _ in range(aio._LOST - 1):
                assert await asyncio.wait_for(synced(sync, file.fileno()), 5) is None
            signal.signal(sync._number, sync._signalled)
            assert await asyncio.wait_for(synced(sync, file.fileno()), 5) is None
            signal.signal(sync._number, signal.SIG_IGN)
            for _ in range(aio._LOST):
                assert await asyncio.wait_for(synced(sync, file.fileno()), 5) is None
            assert not sync.begin(file.fileno(), lambda _, __: None)
        sync.stop()

    run(scenario())


def test_signals_are_given_back() -> None:
    """So a process may open as many queues as it likes, one after the other."""

    async def scenario() -> int:
        sync = made()
        sync.stop()
        assert signal.getsignal(sync._number) is signal.SIG_IGN  # a late one ends nobody
        return sync._number

    assert len({asyncio.run(scenario()) for _ in range(3)}) == 1


def test_outside_the_main_thread_there_is_none() -> None:
    found: list[LogSync | None] = []

    async def scenario() -> None:
        found.append(log_sync(asyncio.get_running_loop()))

    thread = threading.Thread(target=asyncio.run, args=(scenario(),))
    thread.start()
    thread.join()
    assert found == [None]


def test_a_blocked_signal_is_not_used() -> None:
    async def scenario() -> LogSync | None:
        return log_sync(asyncio.get_running_loop())

    before = signal.pthread_sigmask(signal.SIG_BLOCK, aio.SIGNALS)
    free, aio._free[:] = aio._free[:], []
    try:
        assert asyncio.run(scenario()) is None
    finally:
        aio._free[:] = free
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_queue_works_with_it_and_without(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepting, and opened again: everything is there."""

    async def scenario() -> None:
        for number, signals in enumerate((aio.SIGNALS, ())):
            monkeypatch.setattr(aio, "SIGNALS", signals)
            queue = await Queue.open(tmp_path / "spool", Options(reserve=0, aio=True))
            commit: GroupCommit = queue._commit
            assert (commit._log_sync is None) is (not signals)
            await asyncio.gather(*(queue.accept(message()) for _ in range(20)))
            assert sum(tally.entries for tally in queue.stats().values()) == 20 * (number + 1)
            await queue.close()

    run(scenario())
