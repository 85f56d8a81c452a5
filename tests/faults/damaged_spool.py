"""A small spool to be damaged, and what a queue makes of a damaged copy.

All that is due is delivered, what was moved aside is salvaged, and the account is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from zlib import crc32

from fakes.clock import FakeClock
from fakes.spool import Recorder
from faults.damage import PAGE

from mailqueue import (
    Entry,
    Filter,
    Message,
    Options,
    Queue,
    QueueError,
    Recipient,
    SpoolFormat,
    SpoolUnusable,
    State,
    message_number,
)
from mailqueue.durable import open_regular
from mailqueue.salvage import moved_aside

OPTIONS = Options(reserve=0, ballast=0, inline_limit=16 * 1024, longest_wait=3600.0, crash_limit=3)
LANES = ("mx:a.example", "mx:b.example", "route:c")
STARTS = 4  # as often a process that found damage at work starts again
PATIENCE = 60.0  # s for all of it: a FIFO that is waited at never ends

Fate = tuple[str, str, tuple[str, ...], bytes, bytes]  # lane, sender, recipients, meta, content


@dataclass(slots=True)
class Original:
    """What was accepted: by entry. spool: as a clean close or as a crash left it."""

    spool: Path
    fates: dict[int, Fate] = field(default_factory=dict)
    gone: dict[int, Fate] = field(default_factory=dict)  # delivered and forgotten before

    @property
    def pages(self) -> range:
        """Where the database has the rows of entries and messages, if they need but a page each."""
        db = sqlite3.connect(self.spool / "queue.db")
        roots = "SELECT rootpage FROM sqlite_master WHERE name IN ('entry', 'message') ORDER BY 1"
        first, second = [page for (page,) in db.execute(roots)]
        db.close()
        assert second == first + 1
        return range((first - 1) * PAGE, second * PAGE)

    @property
    def sizes(self) -> dict[str, int]:
        """The files that hold mail, and their octets."""
        names = [path for path in self.spool.rglob("*") if path.is_file() and path.parent.name != "damaged"]
        kept = [path for path in names if path.name not in ("lock", "clean", "format")]
        return {str(path.relative_to(self.spool)): path.stat().st_size for path in kept}


async def originals(directory: Path, random: Random, messages: int) -> list[Original]:
    """A spool that was closed, and one that was killed: with its log, and with leases."""
    clock, clean = FakeClock(), Original(directory / "clean")
    queue = await Queue.open(clean.spool, OPTIONS, now=clock.time)
    leased: list[Entry] = []
    queue.on_leased = leased.append
    await _fill(queue, clean, random, messages)
    await queue.close()
    clock.advance(60)
    crashed = Original(directory / "crashed", dict(clean.fates))
    queue = await Queue.open(clean.spool, OPTIONS, now=clock.time)
    other = Original(directory / "other")
    await _fill(queue, other, random, messages // 2)
    queue.claim_lane(LANES[0])
    for entry in (taken := await queue.take(LANES[0], 6))[:3]:
        queue.settle(entry)
    await queue.flush()
    crashed.fates |= other.fates
    crashed.gone = {entry.id: crashed.fates.pop(entry.id) for entry in taken[:3]}
    shutil.copytree(clean.spool, crashed.spool)
    clean.fates, clean.gone = dict(crashed.fates), crashed.gone
    for entry in taken[3:]:
        queue.settle(entry, entry.recipients, due=clock.time() + 30)
    await queue.close()
    return [clean, crashed]


async def _fill(queue: Queue, original: Original, random: Random, messages: int) -> None:
    for number in range(messages):
        size = random.choices((random.randrange(2000), random.randrange(16_000), 20_000), (8, 3, 1))[0]
        content, meta = random.randbytes(size), b"meta %d" % random.randrange(10**9)
        lanes = {
            lane: [
                Recipient(f"to{place}.{number}@{lane[-9:]}", "NOTIFY=NEVER")
                for place in range(1, 1 + random.randrange(1, 4))
            ]
            for lane in random.sample(LANES, random.choice((1, 1, 2)))
        }
        sender = f"from{number}@sender.example"
        stored: Message
        if size > OPTIONS.inline_limit:
            large = queue.content()
            large.write(content)
            stored = Message(sender, lanes, large, meta)
        else:
            stored = Message(sender, lanes, content, meta)
        accepted = await queue.accept(stored)
        for place, (lane, recipients) in enumerate(lanes.items()):
            addresses = tuple(recipient.address for recipient in recipients)
            original.fates[accepted * 1024 + place] = (lane, sender, addresses, meta, content)


@dataclass(slots=True)
class Account:
    """What became of a damaged spool. delivered: entry -> how often; aside: what was moved aside."""

    original: Original
    delivered: dict[int, int] = field(default_factory=dict)
    altered: list[str] = field(default_factory=list)
    quarantined: set[int] = field(default_factory=set)  # messages
    lost: set[int] = field(default_factory=set)  # messages that salvage named
    unreadable: int = 0
    refused: str = ""
    healed: bool = False  # only a start that was told to look closely saw it
    seen: Recorder = field(default_factory=Recorder)
    aside: int = 0
    slowest: float = 0.0  # s of processor time of a start

    @property
    def missing(self) -> set[int]:
        """Entries that are nowhere."""
        named = self.quarantined | self.lost
        return {
            entry for entry in self.original.fates if entry not in self.delivered and entry >> 10 not in named
        }

    @property
    def repeated(self) -> int:
        """Deliveries of what had been delivered."""
        gone = self.original.gone
        return sum(count - (entry not in gone) for entry, count in self.delivered.items())

    @property
    def noticed(self) -> bool:
        return bool(self.seen.errors or self.seen.bad or self.lost or self.unreadable)


async def account(original: Original, spool: Path, found: Account | None = None) -> Account:
    """Drain a spool, salvage, drain again. AssertionError, TimeoutError: it hangs or does not end.

    found: goes on with that account.
    """
    found = found or Account(original)
    clock = FakeClock(wall=FakeClock().wall + 600)
    async with asyncio.timeout(PATIENCE):
        for _ in range(STARTS):
            clock.advance(120)
            begun = time.process_time()
            try:
                queue = await Queue.open(spool, OPTIONS, found.seen, now=clock.time)
            except (SpoolUnusable, SpoolFormat) as error:
                found.refused = str(error)
                return found
            found.slowest = max(found.slowest, time.process_time() - begun)
            try:
                if await _drained(queue, found, clock):
                    break
            except QueueError:
                continue  # damaged: the process ends and starts again
            finally:
                with contextlib.suppress(QueueError):  # damage that only a clean close meets
                    await queue.close()
        else:
            raise AssertionError(f"still failing after {STARTS} starts: {found.seen.errors}")
    return found


async def _drained(queue: Queue, found: Account, clock: FakeClock) -> bool:
    await queue._store.wait()
    await _deliver(queue, found, clock)
    for directory in moved_aside(queue._database.path.parent):
        found.aside += 1
        for _ in range(2):  # the second time changes nothing
            try:
                async for part in queue.salvage(directory):
                    found.lost |= {message_number(lost.name) for lost in part.lost}
                    found.unreadable = max(found.unreadable, part.unreadable)
            except FileNotFoundError:
                found.unreadable += 1  # no file is left
        await _deliver(queue, found, clock)
    found.quarantined |= {
        row.id >> 10 for row in await queue.search(Filter(states=frozenset({State.QUARANTINED})))
    }
    return True


async def _deliver(queue: Queue, found: Account, clock: FakeClock) -> None:
    """Until nothing waits any more, however late it is due."""
    for _ in range(50):
        await queue.release(Filter())
        clock.advance(OPTIONS.longest_wait)
        lanes = queue.claim(50, clock.time())
        for lane in lanes:
            for entry in await queue.take(lane, 100):
                _read(queue, entry, found)
            queue.unclaim(lane)
        await queue.flush()
        if not lanes:
            return
    raise AssertionError(f"{lanes} are offered for ever")


def _read(queue: Queue, entry: Entry, found: Account) -> None:
    loaded = queue.load_now(entry)
    if loaded is None:
        return
    content = loaded.data if loaded.data is not None else _content(loaded.path, loaded.check)
    if content is None:
        queue.quarantine(entry, "its content file is damaged")
        return
    addresses = tuple(recipient.address for recipient in entry.recipients)
    fate = (entry.lane, entry.sender, addresses, loaded.meta, content)
    original = found.original
    if (original.fates.get(entry.id) or original.gone.get(entry.id)) != fate:
        found.altered.append(f"{entry.id}: {fate[:4]}")
    found.delivered[entry.id] = found.delivered.get(entry.id, 0) + 1
    queue.settle(entry)


def _content(path: Path | None, check: int) -> bytes | None:
    """As delivery reads it: the checksum is known at its end."""
    assert path is not None
    descriptor = open_regular(path)
    try:
        content = os.read(descriptor, 2**20)
    finally:
        os.close(descriptor)
    return content if crc32(content) == check else None
