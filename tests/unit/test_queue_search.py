"""mailqueue: what a search costs, beside what it finds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from fakes.spool import edit, message, opened

from mailqueue import Filter, Options, Queue, State
from mailqueue.operate import CHUNK
from mailqueue.schema import connect_reader
from mailqueue.search import Search

FILLED = 4200  # more than two read transactions look at


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FILLED messages, every other held."""

    async def fill() -> None:
        async with opened(path) as queue:
            await asyncio.gather(*(queue.accept(message("ab"[n % 2])) for n in range(FILLED)))
            await queue.hold(Filter(lane="b"))

    path = tmp_path_factory.mktemp("search") / "spool"
    asyncio.run(fill())
    return path


@contextmanager
def reading(spool: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect_reader(spool / "queue.db")) as db:
        yield db


def fetched(db: sqlite3.Connection) -> list[int]:
    """The ids of all rows that reach Python from now on."""
    seen: list[int] = []

    def note(_: object, row: tuple[int, ...]) -> tuple[int, ...]:
        seen.append(row[0])
        return row

    db.row_factory = note
    return seen


@pytest.mark.parametrize("states", [frozenset(), frozenset({State.HELD, State.INCOMING})])
def test_a_page_reads_the_rows_it_shows(spool: Path, states: frozenset[State]) -> None:
    """A long queue in pages: each row is read about once, over one index or several."""
    with reading(spool) as db:
        seen = fetched(db)
        search, after, found = Search(Filter(states=states), 0.0), 0, list[int]()
        while numbers := search.numbers(db, after, CHUNK)[0]:
            found += numbers
            after = numbers[-1]
        assert found == sorted(set(found))
        assert len(found) == FILLED
        assert len(seen) < 2.2 * FILLED
        seen.clear()
        assert len(Search(Filter(states=states), 0.0).rows(db, 0, 50)[0]) >= 50
        assert len(seen) < 110


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(sender="<>"),
        Filter(recipient="<>"),
        Filter(sender="é@elsewhere.example"),
        Filter(recipient="ü@elsewhere.example"),
        Filter(recipient="@nowhere.example"),
    ],
)
def test_what_does_not_match_stays_in_the_database(spool: Path, wanted: Filter) -> None:
    """A search that finds nothing in a long queue costs Python nothing."""
    with reading(spool) as db:
        seen = fetched(db)
        search, after, turns = Search(wanted, 0.0), 0, 0
        while after < 2**63 - 1:
            rows, after = search.rows(db, after, 50)
            turns += 1
            assert (rows, turns < 9) == ([], True)
        assert len(seen) < 9  # where each read transaction ends


async def test_a_long_search_lets_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for one message does not wait until somebody's search has seen the whole queue."""
    monkeypatch.setattr("mailqueue.search._STEP", 10)
    monkeypatch.setattr("mailqueue.search._STEPS", 2)
    async with opened(tmp_path / "spool") as queue:
        await asyncio.gather(*(queue.accept(message()) for _ in range(400)))
        long = asyncio.ensure_future(queue.search(Filter(recipient="nobody@example.net")))
        await asyncio.sleep(0)
        assert len(await queue.search(Filter(), limit=5)) == 5
        assert not long.done()
        assert await long == []


async def test_a_retry_does_not_write_what_is_due(tmp_path: Path) -> None:
    """A million that wait for their lane alone are not written anew; those that wait for a time are."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        await asyncio.gather(*(queue.accept(message()) for _ in range(3)))
    edit(
        spool,
        "UPDATE entry SET due=5 WHERE id=(SELECT min(id) FROM entry)",
        f"UPDATE entry SET due={2**41} WHERE id=(SELECT max(id) FROM entry)",
    )
    async with opened(spool, Options(reserve=0, ballast=0, longest_wait=1e9)) as queue:
        assert await queue.retry(Filter()) == 3
        first, second, third = await queue.search(Filter())
        assert first.due == 0.005
        assert second.due < third.due < 2**31


async def test_a_count_is_what_a_search_finds(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as queue:
        for number in range(5):
            await queue.accept(message("ab"[number % 2], to=f"{number % 2}@example.net"))
        assert await counts(queue) == [5, 3, 2, 0]


async def counts(queue: Queue) -> list[int]:
    wanted = (
        Filter(),
        Filter(lane="a"),
        Filter(recipient="1@EXAMPLE.net"),
        Filter(states=frozenset({State.HELD})),
    )
    return [await queue.count(f) for f in wanted]
