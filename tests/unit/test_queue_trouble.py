"""mailqueue in trouble: failed syncs, full disks, kill -9, a log that must not grow."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.spool import SMALL, Recorder, everything, leasing, message, opened

from mailqueue import (
    Filter,
    NoSpace,
    Options,
    Queue,
    QueueFailed,
    State,
    durable,
    message_name,
)

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


class BadDisk:
    """A sync that fails from now on, and counts how often it was tried."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tries = 0

    def sync(self, _: object) -> None:
        self.tries += 1
        raise OSError(self.number, os.strerror(self.number))


# --- failed syncs


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINTR])
async def test_after_a_failed_sync_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whatever its errno: all who wait are refused, the sync is not tried again, the spool is not clean."""
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
@pytest.mark.parametrize("where", ["write_all", "sync_file", "create"])
async def test_a_content_file_that_fails_is_one_messages_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception], where: str
) -> None:
    """That message is refused with nothing left behind; the next is taken."""
    spool = tmp_path / "spool"
    disk = BadDisk(number)
    async with opened(spool) as queue:
        monkeypatch.setattr(durable, where, lambda *_: disk.sync(None))
        content = queue.content()
        for _ in range(10):
            content.write(bytes(100_000))
        with pytest.raises(expected):
            await queue.accept(message(content=content))
        assert (number, 0) == (content.error.errno if content.error else 0, content.pending)
        monkeypatch.undo()
        await queue.accept(message())
    assert list((spool / "content").iterdir()) == []


# --- full disks


async def test_the_reserve_is_kept(tmp_path: Path) -> None:
    """With less free than the reserve nothing comes in, and what is there goes out."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        await queue.accept(message("a"))
    async with opened(spool, Options(reserve=2**60, ballast=0)) as queue:
        assert queue.space().full
        content = queue.content()
        content.write(bytes(300_000))
        for body in (b"small", content):
            with pytest.raises(NoSpace):
                await queue.accept(message(content=body))
        queue.claim_lane("a")
        (entry,) = await queue.take("a", 5)
        queue.settle(entry, reports=[message("back")])
        await queue.flush()
        assert [row.lane for row in await everything(queue)] == ["back"]
    assert list((spool / "content").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def fill(disk: Path) -> Path:
    """Leave nothing free."""
    filler = disk / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)
    return filler


async def test_a_full_disk_refuses_drains_and_recovers(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New mail: NoSpace. Leased mail is settled, thanks to the ballast. With room, mail is taken again."""
    monkeypatch.setattr("mailqueue.space._LOOK_EVERY", 0.0)
    spool = small_disk / "spool"
    seen = Recorder()
    async with opened(spool, Options(reserve=0, ballast=4 * MIB), seen) as queue:
        leased = leasing(queue)
        unadmitted: list[str] = []
        queue.unadmit = unadmitted.append
        await asyncio.gather(*(queue.accept(message("a", content=b"x" * 20_000)) for _ in range(100)))
        filler = fill(small_disk)
        monkeypatch.setattr(type(queue._parts.room), "has_for", lambda self, size: True)
        body = b"y" * 100_000
        results = await asyncio.gather(
            *(queue.accept(message("b", content=body)) for _ in range(50)), return_exceptions=True
        )
        assert {NoSpace} == {type(result) for result in results}
        assert unadmitted == ["b"] * 50
        monkeypatch.undo()
        monkeypatch.setattr("mailqueue.space._LOOK_EVERY", 0.0)
        assert not (spool / "ballast").exists()
        with pytest.raises(NoSpace):
            await queue.accept(message("b"))
        for entry in leased:
            queue.settle(entry)
        await queue.flush()
        assert queue.lane_tally("a").states == {}
        filler.unlink()
        await queue.accept(message("c"))
        assert (spool / "ballast").exists()
        assert seen.errors[0][0] == "write"
    assert (spool / "clean").exists()


async def test_a_full_disk_at_the_start(small_disk: Path) -> None:
    """After a crash on a full disk: the queue opens, refuses, and lets go of what it has."""
    spool = small_disk / "spool"
    options = Options(reserve=MIB, ballast=2 * MIB)
    code = CHILD.format(spool=str(spool), options=repr(options), admit="False", count=40, size=20_000)
    with child(code) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "full\n":
            pass
        process.kill()
    filler = fill(small_disk)
    async with opened(spool, Options(reserve=12 * MIB, ballast=2 * MIB)) as queue:
        with pytest.raises(NoSpace):
            await queue.accept(message())
        queue.claim_lane("lane")
        for _ in range(4):
            for entry in await queue.take("lane", 10):
                queue.settle(entry)
        await queue.flush()
        assert await everything(queue) == []
        filler.unlink()


# --- kill -9

CHILD = """
import asyncio, pathlib
from mailqueue import Message, Options, Queue, Recipient, message_name

async def main():
    queue = await Queue.open(pathlib.Path({spool!r}), {options})
    queue.admit = lambda lane: {admit}
    def leased(entry):
        print("settled", entry.name, flush=True)
        queue.settle(entry)
    queue.on_leased = leased
    async def client(number):
        for turn in range({count}):
            body = queue.content()
            body.write(bytes({size} if turn % 5 else 200_000))
            name = message_name(await queue.accept(Message("a@b", {{"lane": [Recipient("c@d")]}}, body)))
            print("accepted", name, flush=True)
    await client(0)
    print("full", flush=True)
    await asyncio.gather(*(client(n) for n in range(10)))

asyncio.run(main())
"""


def child(code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "queue")}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("admit", ["False", "lane and __import__('random').random() < 0.5"])
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, admit: str) -> None:
    """Every accepted id that was not settled is there after the restart, whole; the lock is free."""
    spool = tmp_path / "spool"
    code = CHILD.format(spool=str(spool), options=repr(SMALL), admit=admit, count=10_000, size=3000)
    with child(code) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(500)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    said = [line.split() for line in lines if line.endswith("\n")]
    accepted = {name for kind, name in said if kind == "accepted"}
    settled = {name for kind, name in said if kind == "settled"}
    assert len(accepted) > 200
    async with opened(spool) as queue:
        rows = {row.message: row for row in await everything(queue)}
        assert set() == (accepted - settled) - set(rows)
        for name, row in rows.items():
            content = await queue.read_content(name)
            assert row.size == (content.stat().st_size if isinstance(content, Path) else len(content or b""))
        assert queue.stats()[State.ACTIVE].entries == 0


# --- the log


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
        assert queue.next_wake() is not None
        assert (queue.stats()[State.INCOMING].entries, await queue.read_content(name)) == (1, b"hello")
        waiting = asyncio.ensure_future(queue.accept(message("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
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
    """The thread that syncs gets the interpreter although the loop never rests and never has to let go."""
    loop = asyncio.get_running_loop()
    before = sys.getswitchinterval()
    busy = True

    def burn() -> None:
        for _ in range(20_000):
            pass
        if busy:
            loop.call_soon(burn)

    async with opened(tmp_path / "spool") as queue:
        sys.setswitchinterval(60)
        try:
            burn()
            async with asyncio.timeout(6):
                for _ in range(200):
                    await queue.accept(message())
        finally:
            busy = False
            sys.setswitchinterval(before)


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    """As it stands there, in a fresh interpreter."""
    text = (ROOT / "queue" / "README.md").read_text()
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "queue")}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("accepted ")
    assert lines[1:] == [r"sending to@example.net b'Subject: hello\r\n\r\nbody\r\n'", "left []"]
