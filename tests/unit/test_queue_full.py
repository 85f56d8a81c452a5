"""mailqueue on a full disk: what is new is refused, what is there goes out."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.queue_child import CHILD, child
from fakes.spool import Recorder, everything, leasing, message, opened

from mailqueue import (
    NoSpace,
    Options,
    State,
)

MIB = 2**20


async def test_the_reserve_is_kept(tmp_path: Path) -> None:
    """With less free than the reserve nothing comes in, and what is there goes out."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        await queue.accept(message("a"))
    async with opened(spool, Options(reserve=2**60, ballast=0)) as queue:
        assert queue.space().full
        content = queue.content()
        content.write(bytes(2 * MIB))
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
    subprocess.run(["umount", "-l", str(mount)], check=True)


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
        asked: list[str] = []
        unadmitted: list[str] = []

        def admit(lane: str) -> bool:
            asked.append(lane)
            return True

        queue.admit = admit
        queue.unadmit = unadmitted.append
        await asyncio.gather(*(queue.accept(message("a", content=b"x" * 20_000)) for _ in range(100)))
        filler = fill(small_disk)
        monkeypatch.setattr(type(queue._parts.room), "has_for", lambda self, size: True)
        queue.settle(leased.pop())
        asked.clear()
        body = b"y" * 100_000  # more of it than goes into one transaction
        results = await asyncio.gather(
            *(queue.accept(message("b", content=body)) for _ in range(50)), return_exceptions=True
        )
        assert {type(result) for result in results} == {NoSpace}
        await queue.flush()
        assert queue.stats()[State.ACTIVE].entries == len(leased)
        assert len(unadmitted) > 30
        assert unadmitted == asked
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
