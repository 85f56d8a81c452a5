"""Bringing back what a database that was moved aside still proves.

Entries come back under their old ids, in chunks, each in one transaction with a note that they did (the
table `salvaged`), so a crash at any moment means: run it again. Nothing is overwritten, nothing comes twice,
also after it was delivered. The file `salvaged` in the directory says the same, should this database be moved
aside as well. Nothing else is written there.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mailqueue import durable
from mailqueue.damaged import ONLY, Damaged, Lost, Proven
from mailqueue.entry import State, message_name
from mailqueue.errors import QueueError
from mailqueue.pages import Pages
from mailqueue.rows import EntryRow, milliseconds
from mailqueue.start import Parts
from mailqueue.told import Tell, Told
from mailqueue.transaction import Transaction

_ENTRIES, _OCTETS = 200, 4 * 2**20  # in one transaction
_MARK = "salvaged"
_TABLE = "CREATE TABLE IF NOT EXISTS salvaged(entry INTEGER PRIMARY KEY)"
_MOST_ATTEMPTS = 100_000  # more is damage


@dataclass(slots=True)
class Salvaged:
    """What became of entries. found: those that are proven; of them known: in the queue, or brought back
    before, or brought_back: now; of these possibly_delivered: in flight or in doubt, held: they need a look.
    lost: what is not proven; unreadable: pages that should hold rows.
    """

    found: int = 0
    known: int = 0
    brought_back: int = 0
    possibly_delivered: int = 0
    held: int = 0
    unreadable: int = 0
    lost: list[Lost] = field(default_factory=list)


class Salvage:
    """One run over one directory. content: where its content files are."""

    def __init__(self, parts: Parts, directory: Path, content: Path, dry_run: bool) -> None:
        self._parts = parts
        self._directory = directory
        self._content = content
        self._dry_run = dry_run
        self._returned: set[int] = set()  # entries that came back, now or before

    async def run(self) -> AsyncIterator[Salvaged]:
        """Chunk by chunk. OSError: there is nothing to read; QueueError: it cannot go on, run it again."""
        run = partial(self._parts.loop.run_in_executor, thread := ThreadPoolExecutor(1, "mailqueue-salvage"))
        try:
            self._returned = await run(_read_numbers, self._directory / _MARK)
            before = len(self._returned)
            self._returned |= await self._parts.searches.run(_noted)
            pages = await run(Pages, self._directory)
            try:
                only = await run(_read_numbers, self._directory / ONLY)
                damaged = Damaged(pages, self._content, only or None)
                await run(damaged.scan)
                messages = damaged.messages()
                while chunk := await run(_chunk, messages):
                    yield await self._bring_back(chunk, damaged.in_doubt)
                yield Salvaged(unreadable=damaged.unreadable)
            finally:
                thread.submit(pages.close)  # not while it reads, also when who asked is gone
            if len(self._returned) > before:
                await run(_write_mark, self._directory / _MARK, self._returned)
        finally:
            thread.shutdown(wait=False)

    async def _bring_back(self, chunk: list[Proven | Lost], in_doubt: bool) -> Salvaged:
        lost = [item for item in chunk if isinstance(item, Lost) and item.entry not in self._returned]
        proven = [item for item in chunk if isinstance(item, Proven)]
        done = Salvaged(found=sum(len(item.entries) for item in proven), lost=lost)
        if proven and not self._dry_run:
            future: asyncio.Future[None] = self._parts.loop.create_future()
            job = BringBack(self._parts, proven, in_doubt, self._returned, done, future)
            self._parts.commit.add(job)
            await future
            self._returned |= job.returned
        elif proven:
            done.known = sum(row[0] in self._returned for item in proven for row in item.entries)
        return done


def _chunk(messages: Iterator[Proven | Lost]) -> list[Proven | Lost]:
    chunk: list[Proven | Lost] = []
    entries = octets = 0
    for item in messages:
        chunk.append(item)
        entries += len(item.entries) if isinstance(item, Proven) else 1
        octets += len(item.message[6] or b"") if isinstance(item, Proven) else 0
        if entries >= _ENTRIES or octets >= _OCTETS:
            break
    return chunk


class BringBack:
    """The job: what is proven becomes rows again. returned: entries that are back, by this or before."""

    refusable = True

    def __init__(
        self,
        parts: Parts,
        proven: list[Proven],
        in_doubt: bool,
        returned: set[int],
        done: Salvaged,
        future: asyncio.Future[None],
    ) -> None:
        self.octets = sum(len(item.message[6] or b"") for item in proven)
        self._parts = parts
        self._proven = proven
        self._in_doubt = in_doubt
        self._before = returned
        self._done = done
        self._future = future
        self.returned: set[int] = set()

    def write(self, tx: Transaction) -> None:
        done = self._done
        done.known = done.brought_back = done.possibly_delivered = done.held = 0
        done.lost = [lost for lost in done.lost if lost.reason != _TAKEN]
        self.returned = set()
        tx.flush()
        tx.db.execute(_TABLE)
        for item in self._proven:
            self._restore(tx, item)
        tx.flush()
        self._parts.ids.pass_by(max(item.message[0] for item in self._proven))
        tx.db.executemany("INSERT OR IGNORE INTO salvaged VALUES(?)", [(entry,) for entry in self.returned])
        if done.possibly_delivered:
            Told(tx.db).find(done.possibly_delivered, done.held)

    def _restore(self, tx: Transaction, item: Proven) -> None:
        number, check = item.message[0], item.message[5]
        present = tx.db.execute("SELECT check_ FROM message WHERE id=?", (number,)).fetchone()
        if present is not None and present[0] != check:
            self._done.lost.append(Lost(message_name(number), _TAKEN))
            return
        news = [row for row in item.entries if not self._is_known(tx, row[0])]
        self._done.known += len(item.entries) - len(news)
        self.returned.update(row[0] for row in item.entries)
        if news and present is None:
            tx.messages.append(item.message)
        for row in news:
            self._rest(tx, row, row[0] in item.doubtful)

    def _is_known(self, tx: Transaction, entry: int) -> bool:
        query = "SELECT 1 FROM salvaged WHERE entry=?1 UNION SELECT 1 FROM entry WHERE id=?1"
        return entry in self._before or tx.db.execute(query, (entry,)).fetchone() is not None

    def _rest(self, tx: Transaction, row: EntryRow, doubtful: bool) -> None:
        options = self._parts.options
        number, lane, state, due, attempts, crashes, sender, size, recipients, check = row
        following = resting(state, doubtful, crashes, options.crash_limit)
        in_flight = following != state or self._in_doubt
        if following == State.DEFERRED and in_flight:
            due = max(due, tx.now + milliseconds(options.recovery_pause))
        self._done.brought_back += 1
        self._done.possibly_delivered += in_flight
        self._done.held += in_flight and following == State.HELD
        attempts = min(max(attempts, 0), _MOST_ATTEMPTS)
        crashes = min(max(crashes, 0) + (state == State.ACTIVE), options.crash_limit)
        tx.entries.append((number, lane, following, due, attempts, crashes, sender, size, recipients, check))
        tx.count(lane, following, size, due)
        if following <= State.DEFERRED and due <= tx.now:
            tx.due[lane] = None

    def succeed(self) -> None:
        if self._done.possibly_delivered and self._parts.heard:
            self._parts.observer.recovered(self._done.possibly_delivered, self._done.held, 0)
            self._parts.commit.add(Tell())
        if not self._future.done():
            self._future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


_TAKEN = "another message in the queue has its id"


def resting(state: int, doubtful: bool, crashes: int, crash_limit: int) -> int:
    """The state in which an entry comes back. No checksum covers it: what is no state is in doubt."""
    if state in (State.HELD, State.QUARANTINED):
        return state
    if doubtful or not State.ACTIVE <= state <= State.DEFERRED:
        return State.HELD
    if state == State.ACTIVE:
        return State.HELD if crashes + 1 >= crash_limit else State.DEFERRED
    return state


def moved_aside(spool: Path) -> list[Path]:
    """The databases of a spool that were moved aside, oldest first."""
    return sorted(path for path in spool.glob("damaged-*") if path.is_dir() and not path.is_symlink())


def _read_numbers(path: Path) -> set[int]:
    try:
        descriptor = durable.open_regular(path)
    except FileNotFoundError:
        return set()
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        return {int(line) for line in file if line.strip().isdigit()}


def _noted(db: sqlite3.Connection) -> set[int]:
    """What the database says has come back."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name='salvaged'").fetchone() is None:
        return set()
    return {entry for (entry,) in db.execute("SELECT entry FROM salvaged").fetchall()}


def _write_mark(path: Path, entries: set[int]) -> None:
    """Where it cannot be written, the database has it all the same."""
    try:
        durable.put(path, "".join(f"{entry}\n" for entry in sorted(entries)).encode())
    except OSError as error:
        raise QueueError(f"{path} cannot be written ({error.strerror}); what came back is safe") from error
