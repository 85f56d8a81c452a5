"""What the tests of the queue share: a recording observer, small messages, a queue that is open a while."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mailqueue import Content, Entry, Filter, Message, Options, Queue, Recipient, Row, message_name

SMALL = Options(reserve=0, ballast=0)


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.errors: list[tuple[str, BaseException]] = []
        self.bad: list[tuple[str, str]] = []
        self.starts: list[tuple[int, int, int]] = []

    def committed(self, seconds: float, entries: int) -> None:
        self.commits.append(entries)

    def spool_error(self, operation: str, error: BaseException) -> None:
        self.errors.append((operation, error))

    def quarantined(self, name: str, reason: str) -> None:
        self.bad.append((name, reason))

    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        self.starts.append((possibly_delivered, held, orphans))


def message(
    *lanes: str,
    content: bytes | Content = b"body\r\n",
    sender: str = "a@example.com",
    to: str = "b@example.net",
) -> Message:
    """One recipient in each lane."""
    return Message(sender, {lane: [Recipient(to)] for lane in lanes or ("mx:example.net",)}, content, b"meta")


@asynccontextmanager
async def opened(
    path: Path,
    options: Options = SMALL,
    observer: Recorder | None = None,
    now: Callable[[], float] = time.time,
) -> AsyncIterator[Queue]:
    """A queue, closed in the end."""
    queue = await Queue.open(path, options, observer, now=now)
    try:
        yield queue
    finally:
        await queue.close()


def leasing(queue: Queue) -> list[Entry]:
    """Admit everything; the list that fresh leases are put into."""
    leased: list[Entry] = []
    queue.admit = lambda lane: True
    queue.on_leased = leased.append
    return leased


async def everything(queue: Queue) -> list[Row]:
    return await queue.search(Filter(), limit=1_000_000)


def edit(spool: Path, *statements: str) -> None:
    """Change the database of a closed spool behind the queue's back."""
    db = sqlite3.connect(spool / "queue.db")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


async def filled(spool: Path, *lanes: str) -> list[str]:
    """A closed spool with a message in each of these lanes; their queue ids."""
    async with opened(spool) as queue:
        return [message_name(await queue.accept(message(lane))) for lane in lanes]


def root_page(spool: Path, table: str) -> tuple[int, int]:
    """(offset, size) of the page a table begins with."""
    db = sqlite3.connect(spool / "queue.db")
    size: int = db.execute("PRAGMA page_size").fetchone()[0]
    page: int = db.execute("SELECT rootpage FROM sqlite_master WHERE name=?", (table,)).fetchone()[0]
    db.close()
    return (page - 1) * size, size
