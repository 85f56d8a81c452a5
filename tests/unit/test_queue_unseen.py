"""mailqueue and damage that SQLite does not notice, or should not see."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.spool import SMALL, Recorder, edit, everything, filled, leasing, message, opened, root_page

from mailqueue import (
    Entry,
    Filter,
    Queue,
    QueueFailed,
    Recipient,
    SpoolUnusable,
    State,
    message_name,
)

# --- what a start finds before SQLite does


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
@pytest.mark.parametrize("name", ["queue.db", "queue.db-wal", "queue.db-shm"])
async def test_what_is_no_file_is_moved_aside(
    tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    """SQLite would wait at a FIFO or follow a link. All three go together, unfollowed."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    (spool / "clean").unlink()
    (spool / name).unlink(missing_ok=True)
    make(spool / name)
    seen = Recorder()
    async with asyncio.timeout(10), opened(spool, observer=seen) as queue:
        assert await everything(queue) == []
        await queue.accept(message())
    (aside,) = spool.glob("damaged-*")
    assert (aside / name).is_symlink() or not (aside / name).is_file()
    ((_, error),) = seen.errors
    assert f"{name} is no regular file" in str(error)


@pytest.mark.parametrize("name", ["format", "lock", "clean", "suspect"])
async def test_nothing_waits_at_a_fifo(tmp_path: Path, name: str) -> None:
    """Refused with a line that names it, or replaced."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    (spool / name).unlink(missing_ok=True)
    os.mkfifo(spool / name)
    async with asyncio.timeout(10):
        try:
            async with opened(spool) as queue:
                assert len(await everything(queue)) == 1
        except SpoolUnusable as error:
            assert "cannot be used" in str(error)


async def test_an_empty_database_is_moved_aside_with_its_log(tmp_path: Path) -> None:
    """SQLite deletes the log beside an empty or a missing database: the mail in it would be gone."""
    for damage in ("empty", "missing"):
        spool, crashed = tmp_path / damage, tmp_path / f"crashed-{damage}"
        async with opened(spool) as queue:
            await queue.accept(message())
            shutil.copytree(spool, crashed)
        (crashed / "queue.db").unlink()
        if damage == "empty":
            (crashed / "queue.db").touch()
        seen = Recorder()
        async with opened(crashed, observer=seen) as queue:
            (aside,) = crashed.glob("damaged-*")
            found = [part async for part in queue.salvage(aside)]
            assert sum(part.brought_back for part in found) == 1
        assert f"it is {damage}" in str(seen.errors[0][1])


async def test_a_database_that_lost_its_version_is_moved_aside(tmp_path: Path) -> None:
    """Not taken for an empty one."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    edit(spool, "PRAGMA user_version=0")
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        assert await everything(queue) == []
    assert "it has no version" in str(seen.errors[0][1])


# --- bits that SQLite does not notice


def flip(spool: Path, old: bytes, new: bytes, table: str) -> None:
    """Changes the first of these octets in the page a table or an index begins with."""
    start, size = root_page(spool, table)
    data = (spool / "queue.db").read_bytes()
    page = data[start : start + size]
    assert old in page
    page = page.replace(old, new, 1)
    (spool / "queue.db").write_bytes(data[:start] + page + data[start + size :])


async def test_octets_that_are_no_text_are_one_entrys_trouble(tmp_path: Path) -> None:
    """A flipped eighth bit: not an exception that comes back at every start."""
    spool = tmp_path / "spool"
    await filled(spool, "a", "a")
    flip(spool, b"b@example.net", b"b@exa\xedple.net", "entry")
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        assert len(await everything(queue)) == 2
        queue.claim_lane("a")
        assert len(await queue.take("a", 5)) == 1
        assert [reason for _, reason in seen.bad] == ["the checksum of an entry is wrong"]


async def test_an_index_that_hides_entries_is_made_anew(tmp_path: Path) -> None:
    """A key out of order hides what stands behind it. That nothing is found where something is due tells."""
    spool = tmp_path / "spool"
    await filled(spool, *["mx:m"] * 9)
    flip(spool, b"mx:m", b"mz:m", "entry_due")  # the last one: new cells come in from the end
    taken: list[Entry] = []
    for expected in (8, 9):
        queue = await Queue.open(spool, SMALL)
        queue.claim_lane("mx:m")
        while len(taken) < expected:
            (entry,) = await queue.take("mx:m", 1)
            queue.settle(entry)
            taken.append(entry)
        if expected == 8:
            with pytest.raises(QueueFailed, match="in no index"):
                await queue.take("mx:m", 1)
        await queue.close()
    assert not list(spool.glob("damaged-*"))


async def test_a_zero_that_became_a_null_is_quarantined(tmp_path: Path) -> None:
    """attempts and crashes have no octets of their own in a row; no checksum covers them."""
    spool = tmp_path / "spool"
    await filled(spool, "a", "a")
    start, size = root_page(spool, "entry")
    data = bytearray((spool / "queue.db").read_bytes())
    page = data[start : start + size]
    cell = int.from_bytes(page[8:10])
    header = page.index(b"\x08\x08", cell)  # attempts, crashes
    data[start + header] = 0
    (spool / "queue.db").write_bytes(data)
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        assert len(await everything(queue)) == 2
        queue.claim_lane("a")
        assert len(await queue.take("a", 5)) == 1
        assert len(seen.bad) == 1


async def test_a_lane_that_is_never_offered_is_found_by_the_start(tmp_path: Path) -> None:
    """Something waits and nothing is ever offered: counters and lanes are made anew."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    edit(spool, "UPDATE lane SET next=next+(1<<62)")
    async with opened(spool) as queue:
        assert queue.claim(5, 4e9) == ["a"]


async def test_a_state_that_is_none_is_found_by_a_closer_look(tmp_path: Path) -> None:
    """The file `suspect` asks for it. An operator decides about the entry."""
    spool = tmp_path / "spool"
    await filled(spool, "a", "a")
    edit(spool, "UPDATE entry SET state=9 WHERE id=(SELECT min(id) FROM entry)")
    async with opened(spool) as queue:
        assert [row.state for row in await everything(queue)] == [State.QUARANTINED, State.INCOMING]
    (spool / "suspect").touch()
    async with opened(spool) as queue:
        assert queue.stats()[State.HELD].entries == 1
        assert await queue.release(Filter()) == 1


async def test_full_although_there_is_room_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says "full" when a damaged pointer leads it to a page that no database can have."""
    monkeypatch.setattr("mailqueue.commit._RETRY_PAUSE", 0.01)
    spool = tmp_path / "spool"
    await filled(spool, *["a"] * 50)
    queue = await Queue.open(spool, SMALL)
    queue._database.writer.execute("PRAGMA max_page_count=1")
    failed: list[BaseException] = []
    queue.on_failed = failed.append
    queue.settle(*await leased_long(queue), due=4e9)
    with pytest.raises(QueueFailed):
        await queue.flush()
    assert "with room on the disk" in str(failed[0])
    await queue.close()
    assert (spool / "suspect").exists()


async def leased_long(queue: Queue) -> tuple[Entry, list[Recipient]]:
    """A lease, and recipients for its settle that need more pages than there are."""
    queue.claim_lane("a")
    (entry,) = await queue.take("a", 1)
    return entry, [Recipient("x" * 100_000)]


async def test_a_content_file_that_is_none_is_not_read(tmp_path: Path) -> None:
    """A link, to the same octets too, or a FIFO: quarantine."""
    for make in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "outside")):
        spool = tmp_path / f"spool-{make is os.mkfifo}"
        async with opened(spool) as queue:
            leased = leasing(queue)
            content = queue.content()
            content.write(bytes(300_000))
            (tmp_path / "outside").write_bytes(bytes(300_000))
            path = spool / "content" / message_name(await queue.accept(message(content=content)))
            path.unlink()
            make(path)
            assert queue.load_now(leased[0]) is None
            await queue.flush()
            assert queue.stats()[State.QUARANTINED].entries == 1


async def test_damage_that_only_the_close_meets_is_looked_at_by_the_next_start(tmp_path: Path) -> None:
    """The last write of all. What was acknowledged is in the log."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    queue = await Queue.open(spool, SMALL)
    start, size = root_page(spool, "meta")
    queue._database.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with (spool / "queue.db").open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)
    queue._database.writer.execute("PRAGMA shrink_memory")
    queue._database.writer.execute("PRAGMA cache_size=0")
    with pytest.raises(QueueFailed, match="could not be closed cleanly"):
        await queue.close()
    assert (spool / "suspect").exists()
    assert not (spool / "clean").exists()
