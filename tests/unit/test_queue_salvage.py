"""mailqueue: what a damaged database that was moved aside still proves comes back, once, and nothing else."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.salvage import salvaged
from fakes.spool import SMALL, Recorder, edit, everything, leasing, message, opened

from mailqueue import Filter, OfflineQueue, Options, State, message_name, message_number
from mailqueue.salvage import resting

PAGE = 8192


async def stocked(spool: Path, number: int = 30, size: int = 400) -> list[int]:
    """A closed spool with so many messages, one in three lanes, one large; their ids in order."""
    async with opened(spool) as queue:
        ids = [await queue.accept(message("mx:a", content=b"%d" % n + bytes(size))) for n in range(number)]
        large = queue.content()
        large.write(os.urandom(300_000))
        return [
            *ids,
            await queue.accept(message("mx:a", "mx:b", "route:c", to="three@example.net")),
            await queue.accept(message("mx:a", content=large)),
        ]


def put_aside(spool: Path) -> Path:
    """As a start does with a damaged database."""
    target = spool / "damaged-1"
    target.mkdir()
    for path in [path for path in spool.iterdir() if path.name.startswith("queue.db")]:
        path.rename(target / path.name)
    return target


def roots(spool: Path, table: str) -> list[int]:
    """Offsets of the leaf pages of a table, in order."""
    db = sqlite3.connect(spool / "queue.db")
    (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name=?", (table,)).fetchone()
    db.close()
    data = (spool / "queue.db").read_bytes()
    begin = (root - 1) * PAGE
    if data[begin] == 13:
        return [begin]
    assert data[begin] == 5
    page = data[begin : begin + PAGE]
    places = range(12, 12 + 2 * int.from_bytes(page[3:5]), 2)
    cells = [int.from_bytes(page[at : at + 2]) for at in places]
    children = [int.from_bytes(page[cell : cell + 4]) for cell in cells]
    return [(child - 1) * PAGE for child in [*children, int.from_bytes(page[8:12])]]


def overwrite(spool: Path, offset: int, data: bytes) -> None:
    with (spool / "queue.db").open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def test_all_comes_back_under_its_old_ids(tmp_path: Path) -> None:
    """States, times, counts, recipients, content in rows and in files; the file it came from is untouched."""
    spool = tmp_path / "spool"
    ids = await stocked(spool)
    async with opened(spool) as queue:
        await queue.hold(Filter(message=message_name(ids[1])))
        before = await everything(queue)
    aside = put_aside(spool)
    original = (aside / "queue.db").read_bytes()
    async with opened(spool) as queue:
        total = await salvaged(queue, aside)
        assert (total.brought_back, total.possibly, total.lost, total.unreadable) == (len(before), 0, [], 0)
        assert before == await everything(queue)
        assert len(queue.claim(9, 4e9)) == 3
        for row in before:
            entry = next(iter(await queue.take(row.lane, 1)), None)
            assert entry is None or queue.load_now(entry) is not None
    assert (aside / "queue.db").read_bytes() == original


async def test_the_second_time_changes_nothing(tmp_path: Path) -> None:
    """Also not for what was delivered meanwhile; the note of it is in the database and beside the file."""
    spool = tmp_path / "spool"
    await stocked(spool)
    aside = put_aside(spool)
    async with opened(spool) as queue:
        first = await salvaged(queue, aside)
        await queue.drop(Filter(lane="mx:a"))
        await queue._store.wait()
        left = await everything(queue)
        assert len(left) == 2
    copy = tmp_path / "copy"
    shutil.copytree(spool, copy)
    edit(spool, "DELETE FROM salvaged")  # as in yet another database
    (copy / "damaged-1" / "salvaged").unlink()  # as after a crash before it was written
    for place in (spool, copy):
        async with opened(place) as queue:
            total = await salvaged(queue, place / "damaged-1")
            assert (total.brought_back, total.lost) == (0, [])
            assert total.known == first.brought_back - 1  # the content of the large one went with it
            assert left == await everything(queue)


async def test_a_run_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    """Chunk by chunk; the crash leaves the first of them."""
    spool = tmp_path / "spool"
    ids = await stocked(spool, number=500)
    aside = put_aside(spool)
    async with opened(spool) as queue:
        parts = queue.salvage(aside)
        first = await anext(parts)
        await parts.aclose()  # type: ignore[attr-defined]
        assert 0 < first.brought_back < len(ids)
        await queue.drop(Filter())
    async with opened(spool) as queue:
        total = await salvaged(queue, aside)
        assert (total.known, total.brought_back) == (first.brought_back, len(ids) + 2 - first.brought_back)


async def test_what_was_in_flight_is_as_after_a_crash(tmp_path: Path) -> None:
    """Counted, paused, held at the third crash; told to who listens, or by the next start that can."""
    clock, spool = FakeClock(), tmp_path / "spool"
    async with opened(spool, now=clock.time) as queue:
        leasing(queue)
        numbers = [await queue.accept(message("mx:a")) for _ in range(2)]
        await queue.flush()
        crashed = tmp_path / "crashed"
        shutil.copytree(spool, crashed)
    put_aside(crashed)
    db = sqlite3.connect(crashed / "damaged-1" / "queue.db")
    db.execute("UPDATE entry SET crashes=2 WHERE id=?", (numbers[1] * 1024,))
    db.commit()
    db.close()
    clock.advance(3600)
    for observer in (None, seen := Recorder()):
        async with opened(crashed, observer=observer, now=clock.time) as queue:
            if observer is None:
                total = await salvaged(queue, crashed / "damaged-1")
                assert (total.brought_back, total.possibly, total.held) == (2, 2, 1)
            rows = await everything(queue)
            assert [(row.state, row.crashes) for row in rows] == [(State.DEFERRED, 1), (State.HELD, 3)]
            assert rows[0].due == clock.time() + 60
    assert seen.starts == [(2, 1, 0)]


async def test_only_what_is_proven_comes_back_the_rest_is_named(tmp_path: Path) -> None:
    """Wrong checksums of an entry, a message, a content, a content file; rows that are missing."""
    spool = tmp_path / "spool"
    ids = await stocked(spool)
    entry = "UPDATE entry SET {} WHERE id=%d"
    edit(
        spool,
        entry.format("sender='x@evil.example'") % (ids[0] * 1024),
        f"UPDATE message SET meta=X'00' WHERE id={ids[1]}",
        f"UPDATE message SET content=zeroblob(size) WHERE id={ids[2]}",
        f"DELETE FROM message WHERE id={ids[3]}",
        f"DELETE FROM entry WHERE id={ids[4] * 1024}",
        entry.format("recipients='[]'") % (ids[-2] * 1024 + 1),
    )
    path = spool / "content" / message_name(ids[-1])
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    aside = put_aside(spool)
    async with opened(spool) as queue:
        total = await salvaged(queue, aside)
        assert total.reasons == {
            message_name(ids[0]): "the checksum of an entry is wrong",
            message_name(ids[1]): "the checksum of the message is wrong",
            message_name(ids[2]): "the checksum of the content is wrong",
            message_name(ids[3]): "its row cannot be read",
            message_name(ids[4]): "an entry cannot be read: nothing says to whom it was to go",
            message_name(ids[-2]): "the checksum of an entry is wrong",
            message_name(ids[-1]): "the checksum of its content file is wrong",
        }
        assert total.lost[0].sender == "x@evil.example"
        back = {row.id for row in await everything(queue)}
        assert back == {n * 1024 for n in ids[5:-1]} | {ids[-2] * 1024 + 2}
        assert total.brought_back == len(back)


@pytest.mark.parametrize("table", ["entry", "message"])
async def test_a_page_that_is_gone_takes_only_its_own_rows(tmp_path: Path, table: str) -> None:
    """They are named by the other table; those on the other pages come back."""
    spool = tmp_path / "spool"
    ids = await stocked(spool, number=500)
    pages = roots(spool, table)
    assert len(pages) > 2
    overwrite(spool, pages[1], bytes(PAGE))
    aside = put_aside(spool)
    async with opened(spool) as queue:
        total = await salvaged(queue, aside)
        back = {row.id >> 10 for row in await everything(queue)}
        assert total.unreadable == 1
        assert 0 < len(total.lost) < len(ids) / 2
        assert back | {message_number(lost.name) for lost in total.lost} == set(ids)


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: bytes(PAGE) + data[PAGE:],  # the first page: no schema, no header
        lambda data: data[:100] + bytes(PAGE - 100) + data[PAGE:],
        lambda data: os.urandom(100) + data[100:],
    ],
)
async def test_without_its_first_page_nothing_is_lost(tmp_path: Path, damage: Damage) -> None:
    """Rows are known by their shape and their checksums."""
    spool = tmp_path / "spool"
    ids = await stocked(spool)
    aside = put_aside(spool)
    (aside / "queue.db").write_bytes(damage((aside / "queue.db").read_bytes()))
    async with opened(spool) as queue:
        total = await salvaged(queue, aside)
        assert (total.brought_back, total.lost) == (len(ids) + 2, [])


async def test_pages_that_were_given_up_bring_nothing_back(tmp_path: Path) -> None:
    """What was delivered long ago still stands on free pages. Where the map of them is gone, it comes back on
    hold, for somebody to look at."""
    spool = tmp_path / "spool"
    ids = await stocked(spool, number=200)
    async with opened(spool) as queue:
        for number in ids[:190]:
            await queue.drop(Filter(message=message_name(number)))
    for lose_map in (False, True):
        copy = tmp_path / f"copy{lose_map}"
        shutil.copytree(spool, copy)
        if lose_map:
            overwrite(copy, PAGE, bytes(PAGE))
        aside = put_aside(copy)
        async with opened(copy) as queue:
            total = await salvaged(queue, aside)
            states = {row.state for row in await everything(queue)}
            if lose_map:
                assert states == {State.HELD}
                assert total.brought_back == total.held == total.possibly >= 14
            else:
                assert (total.brought_back, states) == (14, {State.INCOMING})


async def test_an_id_that_is_taken_is_not_overwritten(tmp_path: Path) -> None:
    """By a clock that was set back; and ids given later are none that came back."""
    clock, spool = FakeClock(), tmp_path / "spool"
    async with opened(spool, now=clock.time) as queue:
        await queue.accept(message("mx:a", content=b"old"))
        last = await queue.accept(message("mx:a", content=b"old"))
    aside = put_aside(spool)
    clock.jump(-86400)
    async with opened(spool, now=clock.time) as queue:
        number = await queue.accept(message("mx:a", content=b"new"))
        edit(
            aside,
            f"UPDATE message SET id={number} WHERE id={last}",
            f"UPDATE entry SET id={number * 1024} WHERE id={last * 1024}",
        )
        total = await salvaged(queue, aside)
        assert total.brought_back == 1
        assert await queue.read_content(message_name(number)) == b"new"
        assert await queue.accept(message("mx:a")) > last - 2


async def test_content_files_of_an_earlier_database_are_no_orphans(tmp_path: Path) -> None:
    """Also when the clock was set back before the new one was made, and is right again later."""
    clock, spool = FakeClock(), tmp_path / "spool"
    async with opened(spool, now=clock.time) as queue:
        large = queue.content()
        large.write(bytes(300_000))
        number = await queue.accept(message("mx:a", content=large))
    aside = put_aside(spool)
    clock.jump(-3653 * 86400)
    for jump in (3653 * 86400, 0):
        async with opened(spool, now=clock.time) as queue:
            await queue._store.wait()
            assert (spool / "content" / message_name(number)).exists()
            clock.jump(jump)
    async with opened(spool, now=clock.time) as queue:
        assert (await salvaged(queue, aside)).brought_back == 1
    seen = Recorder()
    async with opened(spool, observer=seen, now=clock.time) as queue:
        await queue._store.wait()
        assert seen.errors == []  # it is this queue's again
        assert await queue.read_content(message_name(number)) == spool / "content" / message_name(number)


async def test_a_dry_run_only_looks(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    ids = await stocked(spool)
    aside = put_aside(spool)
    async with opened(spool) as queue:
        found = [part async for part in queue.salvage(aside, dry_run=True)]
        assert sum(part.found for part in found) == len(ids) + 2
        assert await everything(queue) == []
    assert [path.name for path in aside.iterdir()] == ["queue.db"]


async def test_where_nothing_can_be_read(tmp_path: Path) -> None:
    """No such file, or what is none: a link, a FIFO."""
    spool = tmp_path / "spool"
    await stocked(spool, 1)
    (aside := spool / "damaged-1").mkdir()
    async with opened(spool) as queue:
        for make in (lambda path: None, os.mkfifo, lambda path: path.symlink_to(spool / "queue.db")):
            make(aside / "queue.db")
            with pytest.raises(FileNotFoundError):
                await salvaged(queue, aside)
            (aside / "queue.db").unlink(missing_ok=True)


def test_offline(tmp_path: Path) -> None:
    """Without a daemon."""
    import asyncio

    spool = tmp_path / "spool"
    ids = asyncio.run(stocked(spool))
    aside = put_aside(spool)
    with OfflineQueue(spool, SMALL) as queue:
        assert sum(part.brought_back for part in queue.salvage(aside)) == len(ids) + 2


@pytest.mark.parametrize(
    ("state", "doubtful", "crashes", "expected"),
    [
        (State.ACTIVE, False, 0, State.DEFERRED),
        (State.ACTIVE, False, 2, State.HELD),
        (State.INCOMING, False, 2, State.INCOMING),
        (State.DEFERRED, True, 0, State.HELD),
        (State.HELD, True, 0, State.HELD),
        (State.QUARANTINED, True, 0, State.QUARANTINED),
        (-1, False, 0, State.HELD),
        (7, False, 0, State.HELD),
    ],
)
def test_the_state_in_which_it_comes_back(state: int, doubtful: bool, crashes: int, expected: State) -> None:
    assert expected == resting(state, doubtful, crashes, Options().crash_limit)
