"""mailqueue: the start, whatever state the last process left the spool in (the table of queue/README.md)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.spool import SMALL, Recorder, edit, everything, filled, leasing, message, opened

from mailqueue import (
    Filter,
    OfflineQueue,
    Options,
    Queue,
    SpoolFormat,
    SpoolLocked,
    SpoolUnusable,
    State,
    durable,
    message_name,
)
from mailqueue.start import acquire


def image(spool: Path) -> Path:
    """The spool as a crash would leave it now."""
    copy = spool.with_name(spool.name + "-crashed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(spool, copy)
    return copy


# --- ownership and format


async def test_a_spool_has_one_owner(tmp_path: Path) -> None:
    """The second one says who the first is; after a close the spool is free."""
    async with opened(tmp_path / "spool"):
        with pytest.raises(SpoolLocked, match=f"in use by process {os.getpid()}"):
            await Queue.open(tmp_path / "spool", SMALL)
    async with opened(tmp_path / "spool"):
        pass


async def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    """Directories 0700, files 0600, whatever the umask."""
    spool = tmp_path / "spool"
    before = os.umask(0)
    try:
        async with opened(spool, Options(reserve=0, ballast=65536)) as queue:
            content = queue.content()
            content.write(bytes(300_000))
            await queue.accept(message(content=content))
            found = {path.name: path for path in (spool, *spool.rglob("*"))}
            modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}
    finally:
        os.umask(before)
    assert {"lock", "format", "queue.db", "queue.db-wal", "queue.db-shm", "content", "ballast"} <= set(modes)
    assert {name: 0o700 if found[name].is_dir() else 0o600 for name in modes} == modes


async def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """By its file and by its database; nothing is touched."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    (spool / "format").write_text("mailqueue 99\n")
    with pytest.raises(SpoolFormat, match=r"'mailqueue 99'.*'mailqueue 1'"):
        await Queue.open(spool, SMALL)
    (spool / "format").write_text("mailqueue 1\n")
    edit(spool, "PRAGMA user_version=7")
    with pytest.raises(SpoolFormat, match="version 7"):
        await Queue.open(spool, SMALL)
    edit(spool, "PRAGMA user_version=1")
    async with opened(spool) as queue:
        assert len(await everything(queue)) == 1


async def test_what_cannot_be_a_spool(tmp_path: Path) -> None:
    """One clear line."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "spool", tmp_path / "no" / "such"):
        with pytest.raises(SpoolUnusable, match="cannot be used"):
            await Queue.open(path, SMALL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be in the way of another owner")
async def test_root_leaves_other_peoples_spools_alone(tmp_path: Path) -> None:
    """Files of root in somebody's spool would stop the daemon."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    os.chown(spool, 12345, 12345)
    with pytest.raises(SpoolUnusable, match="belongs to user 12345"):
        await Queue.open(spool, SMALL)


async def test_an_interrupted_creation_is_completed(tmp_path: Path) -> None:
    """A crash before the tables, and one before the file `format`."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "queue.db").write_bytes(b"")
    await filled(spool, "a")
    (spool / "format").unlink()
    async with opened(spool) as queue:
        assert len(await everything(queue)) == 1
        assert (spool / "format").exists()


# --- after a crash


async def test_the_clean_mark_is_there_only_while_closed(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    async with opened(spool):
        assert not (spool / "clean").exists()
    assert (spool / "clean").exists()
    assert not (spool / "queue.db-wal").exists()


async def test_what_was_in_flight_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    """Known, counted, deferred; at the third crash held; an operator's release starts the count anew."""
    clock = FakeClock()
    spool = tmp_path / "spool"
    expected = [(1, 0, State.DEFERRED), (1, 0, State.DEFERRED), (1, 1, State.HELD)]
    await filled(spool, "other")
    for crash, (possibly, held, state) in enumerate(expected, 1):
        async with opened(spool, now=clock.time) as queue:
            leasing(queue)
            queue.claim_lane("mx:a")
            if crash == 1:
                await queue.accept(message("mx:a"))
            clock.advance(60)
            assert crash == 1 or len(await queue.take("mx:a", 5)) == 1
            crashed = image(spool)
        spool = crashed
        seen = Recorder()
        async with opened(spool, observer=seen, now=clock.time) as queue:
            (row,) = await queue.search(Filter(lane="mx:a"))
            assert ((state, crash, 0), [(possibly, held, 0)]) == (
                (row.state, row.crashes, row.attempts), seen.starts
            )  # fmt: skip
            assert state is State.HELD or clock.time() + 60 == row.due == queue.lane_tally("mx:a").next
            assert (queue.stats()[State.ACTIVE].entries, queue.stats()[state].entries) == (0, 1)
    async with opened(spool, now=clock.time) as queue:
        assert await queue.release(Filter(lane="mx:a")) == 1
        (row,) = await queue.search(Filter(lane="mx:a"))
        assert (row.state, row.crashes) == (State.INCOMING, 0)


async def test_what_was_in_flight_is_told_once_by_the_first_start_that_can(tmp_path: Path) -> None:
    """Not by one that was killed after its recovery, nor by an operator's command while the relay is down."""
    clock, seen = FakeClock(), Recorder()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leasing(queue)
        await queue.accept(message("a", "b"))
        crashed = image(tmp_path / "spool")
    async with opened(crashed, now=clock.time):
        killed = image(crashed)
    await asyncio.to_thread(lambda: OfflineQueue(killed, SMALL).close())
    async with opened(killed, observer=seen, now=clock.time) as queue:
        assert seen.starts == [(2, 0, 0)]
        await queue.flush()
        told = image(killed)
    async with opened(told, observer=seen, now=clock.time):
        assert seen.starts == [(2, 0, 0)]


async def test_a_lease_over_a_clean_close_was_in_flight(tmp_path: Path) -> None:
    """Nobody knows what became of it."""
    async with opened(tmp_path / "spool") as queue:
        leasing(queue)
        await queue.accept(message("a"))
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        assert seen.starts == [(1, 0, 0)]
        assert [row.state for row in await everything(queue)] == [State.DEFERRED]


async def test_everything_acknowledged_is_in_the_image_of_a_crash(tmp_path: Path) -> None:
    """Small and large, waiting and leased; and what was forgotten stays forgotten."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content = queue.content()
        content.write(b"x" * 300_000)
        large = message_name(await queue.accept(message("a", content=content)))
        small = message_name(await queue.accept(message("a", content=b"small")))
        leased = leasing(queue)
        gone = message_name(await queue.accept(message("a")))
        queue.settle(leased[0])
        await queue.flush()
        crashed = image(spool)
    async with opened(crashed) as queue:
        assert [large, small] == [row.message for row in await everything(queue)]
        assert await queue.read_content(small) == b"small"
        path = await queue.read_content(large)
        assert isinstance(path, Path) and path.read_bytes() == b"x" * 300_000
        assert await queue.read_content(gone) is None


@pytest.mark.parametrize("full", [False, True])
async def test_the_log_is_written_anew_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Its pages may be clean in memory and not on disk: copied and renamed; in place without room."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        await queue.accept(message("a"))
        crashed = image(spool)
    calls: list[str] = []
    real, real_in_place = durable.rewrite, durable.rewrite_in_place

    def rewrite(path: Path) -> None:
        calls.append(f"copy {path.name}")
        if full:
            raise OSError(errno.ENOSPC, "full")
        inode = path.stat().st_ino
        real(path)
        assert inode != path.stat().st_ino

    def in_place(path: Path) -> None:
        calls.append(f"in place {path.name}")
        before = path.read_bytes()
        real_in_place(path)
        assert before == path.read_bytes()

    monkeypatch.setattr(durable, "rewrite", rewrite)
    monkeypatch.setattr(durable, "rewrite_in_place", in_place)
    async with opened(crashed) as queue:
        assert len(await everything(queue)) == 1
    assert ["copy queue.db-wal", "in place queue.db-wal"][: 1 + full] == calls
    async with opened(crashed):
        assert 1 + full == len(calls)


async def test_orphans_are_removed_and_strangers_left(tmp_path: Path) -> None:
    """A content file without a row goes; one with a row, one from before this database and odd names stay."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content = queue.content()
        content.write(bytes(300_000))
        kept = message_name(await queue.accept(message(content=content)))
        orphan = queue.content()
        orphan.write(bytes(2**20))
        written = asyncio.Event()
        orphan.on_drain = written.set
        await written.wait()
        crashed = image(spool)
        lost = message_name(orphan.message)
        orphan.discard()
    for name in ("README", "1"):
        (crashed / "content" / name).write_text("")
    assert {kept, lost, "README", "1"} == {path.name for path in (crashed / "content").iterdir()}
    seen = Recorder()
    async with opened(crashed, observer=seen) as queue:
        await queue._store.wait()
        assert {kept, "README", "1"} == {path.name for path in (crashed / "content").iterdir()}
        assert seen.starts == [(0, 0, 1)]
        assert [str(error)[:7] for _, error in seen.errors] == ["2 files"]


async def test_many_lanes_in_trouble_do_not_delay_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were claimed or postponed are offered again, but the start itself deals with a few."""
    monkeypatch.setattr("mailqueue.resume.AT_START", 10)
    monkeypatch.setattr("mailqueue.resume.CHUNK", 7)
    clock, spool = FakeClock(), tmp_path / "spool"
    lanes = [f"mx:d{number}.example" for number in range(60)]
    async with opened(spool, now=clock.time) as queue:
        for lane in lanes:
            await queue.accept(message(lane))
            queue.claim_lane(lane)
        for lane in lanes[:40]:
            queue.unclaim(lane, clock.time() + 300)
        await queue.flush()
        crashed = image(spool)
    owned = acquire(crashed, SMALL, clock.time)
    left = "SELECT count(*) FROM lane WHERE next IS NULL OR not_before>0"
    assert owned.database.writer.execute(left).fetchone() == (50,)
    queue, woken = Queue(owned, SMALL, Recorder(), clock.time), list[int]()
    queue.on_wake = lambda: woken.append(1)
    queue._parts.begin(heard=True)
    queue.claim_lane(lanes[50])  # by this life: stays claimed
    await queue.flush()
    for _ in range(20):
        await queue.flush()
    assert woken
    assert set(queue.claim(100, clock.time())) == set(lanes) - {lanes[50]}
    await queue.close()


async def test_a_queue_that_is_closed_at_once_leaves_lanes_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailqueue.resume.AT_START", 1)
    monkeypatch.setattr("mailqueue.resume.CHUNK", 1)
    clock, spool = FakeClock(), tmp_path / "spool"
    async with opened(spool, now=clock.time) as queue:
        for number in range(30):
            await queue.accept(message(f"mx:d{number}.example"))
            queue.claim_lane(f"mx:d{number}.example")
    async with opened(spool, now=clock.time):
        pass
    monkeypatch.setattr("mailqueue.resume.AT_START", 100)
    async with opened(spool, now=clock.time) as queue:
        assert len(queue.claim(100, clock.time())) == 30
