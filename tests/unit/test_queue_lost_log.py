"""mailqueue: a log with a hole. SQLite ends at the first bad frame without a word."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakes.salvage import salvaged
from fakes.spool import Recorder, everything, message, opened

from mailqueue import MovedAside, durable
from mailqueue.salvage import moved_aside


async def with_a_hole(crashed: Path) -> list[int]:
    """A spool as a crash left it, with a flipped bit in the middle of its log; the ids of forty messages."""
    spool = crashed.with_name("running")
    async with opened(spool) as queue:
        ids = [await queue.accept(message("mx:a", content=bytes(n))) for n in range(40)]
        shutil.copytree(spool, crashed)
    log = crashed / "queue.db-wal"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 4
    log.write_bytes(data)
    return ids


async def test_a_log_with_a_hole_is_kept_and_what_is_behind_it_comes_back(tmp_path: Path) -> None:
    """SQLite ends at the first bad frame without a word. What it leaves out is reported and salvaged."""
    crashed = tmp_path / "crashed"
    ids = await with_a_hole(crashed)
    kept = (crashed / "queue.db-wal").read_bytes()
    seen = Recorder()
    async with opened(crashed, observer=seen) as queue:
        there = len(await everything(queue))
        assert 0 < there < 40
        ((operation, error),) = seen.errors
        assert operation == "open"
        assert isinstance(error, MovedAside)
        assert f"{40 - there} messages are in it alone" in str(error)
        (aside,) = moved_aside(crashed)
        assert (aside / "queue.db-wal").read_bytes() == kept
        total = await salvaged(queue, aside)
        assert (total.brought_back, total.possibly, total.lost) == (40 - there, 40 - there, [])
        assert sorted(ids) == [row.id >> 10 for row in await everything(queue)]


@pytest.mark.parametrize("torn", ["cut", "flipped"])
async def test_the_torn_end_of_a_log_is_no_hole(tmp_path: Path, torn: str) -> None:
    """Nothing in it was acknowledged: nobody is told. Its last transaction may be there but for a block."""
    spool, crashed = tmp_path / "spool", tmp_path / "crashed"
    async with opened(spool) as queue:
        for number in range(10):
            await queue.accept(message("mx:a", content=bytes(number)))
        shutil.copytree(spool, crashed)
    data = bytearray((crashed / "queue.db-wal").read_bytes())
    if torn == "cut":
        del data[-5000:]
    else:
        data[-2 * 8216 + 500] ^= 1  # in the frame before that of the commit
    (crashed / "queue.db-wal").write_bytes(data)
    seen = Recorder()
    async with opened(crashed, observer=seen) as queue:
        assert len(await everything(queue)) == 9
        assert (seen.errors, moved_aside(crashed)) == ([], [])


async def test_a_log_that_cannot_be_kept_does_not_keep_what_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on a full disk: it is reported, and the start goes on."""
    spool = tmp_path / "spool"
    await with_a_hole(spool)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "copy", full)
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        assert await everything(queue)
    assert "could not be kept: No space left" in str(seen.errors[0][1])
