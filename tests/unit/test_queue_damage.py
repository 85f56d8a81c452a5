"""mailqueue and damage: what cannot be trusted is kept, counted, reported, never deleted, never sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.spool import SMALL, Recorder, edit, everything, filled, leasing, message, opened, root_page

from mailqueue import (
    Filter,
    Queue,
    QueueFailed,
    State,
    durable,
    message_name,
)


def scribble(path: Path, start: int, length: int = 200) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


async def test_a_damaged_database_is_moved_aside_whole(tmp_path: Path) -> None:
    """The relay starts empty and says so; nothing is deleted, neither the database nor its content files."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content = queue.content()
        content.write(bytes(300_000))
        name = message_name(await queue.accept(message(content=content)))
    scribble(spool / "queue.db", 0)
    for _ in range(2):  # the files of the lost database are safe at later starts too
        seen = Recorder()
        async with opened(spool, observer=seen) as queue:
            await queue._store.wait()
            assert await everything(queue) == []
        assert [name] == [path.name for path in (spool / "content").iterdir()]
        (aside,) = spool.glob("damaged-*")
        assert (aside / "queue.db").stat().st_size > 300
    assert not seen.errors or seen.errors[0][0] == "cleanup"


async def test_content_of_a_lost_database_is_safe_from_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """It lies in the future of the new database, and in the past of later starts."""
    spool, clock = tmp_path / "spool", FakeClock()
    async with opened(spool, now=clock.time) as queue:
        content = queue.content()
        content.write(bytes(300_000))
        await queue.accept(message(content=content))
    scribble(spool / "queue.db", 0)
    for seconds in (-1e6, 2e6):
        clock.advance(seconds)
        async with opened(spool, now=clock.time) as queue:
            await queue._store.wait()
    (path,) = (spool / "content").iterdir()
    assert path.stat().st_size == 300_000


async def test_the_move_is_reported(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    await filled(spool, "a")
    scribble(spool / "queue.db", 0)
    seen = Recorder()
    async with opened(spool, observer=seen):
        pass
    ((operation, error),) = seen.errors
    assert operation == "open"
    assert "is damaged" in str(error) and "damaged-" in str(error)


async def test_a_missing_database_is_reported(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    await filled(spool, "a")
    (spool / "queue.db").unlink()
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        await queue.accept(message())
    assert ["missing" in str(error) for _, error in seen.errors] == [True]


async def test_damage_found_at_work_is_final(
    tmp_path: Path,
) -> None:
    """SQLite says "malformed" when the entries are read: on_failed; the next start looks closely."""
    spool = tmp_path / "spool"
    await filled(spool, "a")
    start, size = root_page(spool, "entry")
    scribble(spool / "queue.db", start, size)
    queue = await Queue.open(spool, SMALL)
    failed: list[BaseException] = []
    queue.on_failed = failed.append
    queue.claim_lane("a")
    with pytest.raises(QueueFailed, match="malformed"):
        await queue.take("a", 5)
    await queue.close()
    assert (len(failed), (spool / "suspect").exists()) == (1, True)
    async with opened(spool) as queue:
        assert await everything(queue) == []
        await queue.accept(message())
    assert len(list(spool.glob("damaged-*"))) == 1
    assert not (spool / "suspect").exists()


async def test_suspect_indexes_and_counters_are_made_anew(tmp_path: Path) -> None:
    """They are derived from the entries, so nothing is lost when they are wrong."""
    spool = tmp_path / "spool"
    await filled(spool, "mx:a", "mx:a", "mx:b")
    edit(spool, "UPDATE lane SET incoming=77, next=1", "UPDATE total SET entries=99")
    start, size = root_page(spool, "entry_due")
    whole = (spool / "queue.db").read_bytes()
    page = whole[start : start + size].replace(b"mx:a", b"mx:z")
    (spool / "queue.db").write_bytes(whole[:start] + page + whole[start + size :])
    (spool / "suspect").write_bytes(b"")
    async with opened(spool) as queue:
        assert (queue.stats()[State.INCOMING].entries, queue.stats()[State.INCOMING].bytes) == (3, 18)
        assert queue.lane_tally("mx:a").states[State.INCOMING].entries == 2
        assert queue.claim(5, 4e9) == ["mx:a", "mx:b"]
        assert len(await queue.take("mx:a", 5)) == 2
    assert not list(spool.glob("damaged-*"))


Damage = Callable[[Path, str], object]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda spool, name: edit(spool, "UPDATE message SET content=X'00'"), "content"),
        (lambda spool, name: edit(spool, "UPDATE message SET content=zeroblob(size)"), "content"),
        (lambda spool, name: edit(spool, "UPDATE message SET meta=X'00'"), "message"),
        (lambda spool, name: edit(spool, "UPDATE message SET content=CAST(content AS TEXT)"), "type"),
        (lambda spool, name: edit(spool, "UPDATE message SET meta=CAST(meta AS TEXT)"), "type"),
        (lambda spool, name: edit(spool, "DELETE FROM message"), "row is missing"),
    ],
)
async def test_a_damaged_message_goes_to_quarantine(tmp_path: Path, damage: Damage, reason: str) -> None:
    """Found when it is loaded: all its entries are kept, counted, reported, and never sent."""
    spool = tmp_path / "spool"
    (name,) = await filled(spool, "a")
    damage(spool, name)
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        queue.claim_lane("a")
        (entry,) = await queue.take("a", 5)
        assert await queue.load(entry) is None
        await queue.flush()
        assert ([State.QUARANTINED], [name]) == (
            [row.state for row in await everything(queue)], [bad for bad, _ in seen.bad]
        )  # fmt: skip
        assert reason in seen.bad[0][1]
        assert await queue.take("a", 5) == []
        assert (queue.stats()[State.ACTIVE].entries, queue.stats()[State.QUARANTINED].entries) == (0, 1)
        assert await queue.release(Filter()) == 0
        assert await queue.drop(Filter(states=frozenset({State.QUARANTINED}))) == 1


@pytest.mark.parametrize("column", ["recipients='[]'", "sender='x'", "size=size+1", "recipients='{'"])
async def test_a_damaged_entry_goes_to_quarantine(tmp_path: Path, column: str) -> None:
    """Found when it is taken; the sound one beside it is leased; its message's other lanes go along."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        bad = message_name(await queue.accept(message("a", "b")))
        await queue.accept(message("a"))
    edit(spool, f"UPDATE entry SET {column} WHERE id=(SELECT min(id) FROM entry)")
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        queue.claim_lane("a")
        (entry,) = await queue.take("a", 5)
        assert [row.state.name for row in await everything(queue)] == ["QUARANTINED", "QUARANTINED", "ACTIVE"]
        assert [bad] == [name for name, _ in seen.bad]
        assert entry.name != bad


async def test_other_leases_of_a_damaged_message_end_in_quarantine(tmp_path: Path) -> None:
    """They may deliver it (they have read it); undelivered they do not come back."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        leased = leasing(queue)
        await queue.accept(message("a", "b", "c"))
        queue.quarantine(leased[0], "the file is wrong")
        await queue.flush()
        queue.settle(leased[1], leased[1].recipients, due=1.0)
        queue.settle(leased[2])
        await queue.flush()
        assert [row.state.name for row in await everything(queue)] == ["QUARANTINED", "QUARANTINED"]
        assert queue.stats()[State.ACTIVE].entries == 0


async def test_a_missing_content_file_goes_to_quarantine(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    seen = Recorder()
    async with opened(spool, observer=seen) as queue:
        leased = leasing(queue)
        content = queue.content()
        content.write(bytes(300_000))
        name = message_name(await queue.accept(message(content=content)))
        (spool / "content" / name).unlink()
        assert queue.load_now(leased[0]) is None
        await queue.flush()
        assert [(name, "its content file is missing")] == seen.bad


async def test_the_mark_of_damage_stays_until_the_repair_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        await queue.accept(message())
    (spool / "suspect").write_bytes(b"")
    marked: list[bool] = []
    sync = durable.sync_log

    def watched(descriptor: int) -> None:
        marked.append((spool / "suspect").exists())
        sync(descriptor)

    monkeypatch.setattr(durable, "sync_log", watched)
    async with opened(spool):
        assert marked == [True]
        assert not (spool / "suspect").exists()
