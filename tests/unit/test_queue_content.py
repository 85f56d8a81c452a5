"""mailqueue: content, small and large, on its way in and out; and what close waits for."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from fakes.spool import SMALL, leasing, message, opened

from mailqueue import (
    Content,
    Filter,
    Options,
    Queue,
    QueueClosed,
    durable,
    message_name,
)

LARGE = 700_000


def content_files(spool: Path) -> list[str]:
    return sorted(path.name for path in (spool / "content").iterdir())


def large(queue: Queue, size: int = LARGE, piece: int = 65536) -> tuple[Content, bytes]:
    """A content written in pieces, and what was written."""
    data = os.urandom(size)
    content = queue.content()
    for start in range(0, size, piece):
        content.write(data[start : start + piece])
    return content, data


async def test_large_content_has_its_own_file(tmp_path: Path) -> None:
    """Streamed to content/<id>, whole before done, gone when forgotten."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        leased = leasing(queue)
        content, data = large(queue)
        number = await queue.accept(message("mx:a", content=content))
        assert (content.message, [message_name(number)]) == (number, content_files(spool))
        assert data == (spool / "content" / message_name(number)).read_bytes()
        assert leased[0].content is None
        loaded = await queue.load(leased[0])
        assert loaded is not None and loaded.path is not None
        assert (data, crc32(data), LARGE) == (loaded.path.read_bytes(), loaded.check, loaded.size)
        assert loaded == queue.load_now(leased[0])
        queue.settle(leased[0])
        await queue.flush()
    assert content_files(spool) == []


async def test_what_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """Half a content file whose id comes again, because the clock was set back."""
    async with opened(tmp_path / "spool") as queue:
        content = queue.content()
        path = tmp_path / "spool" / "content" / message_name(content.message)
        path.write_bytes(bytes(400_000))
        content.write(b"x" * 300_000)
        name = message_name(await queue.accept(message(content=content)))
        assert path == await queue.read_content(name)
        assert path.read_bytes() == b"x" * 300_000


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 131072, 131073, 2**20, 2**20 + 1])
async def test_content_of_every_size_comes_back(tmp_path: Path, size: int) -> None:
    """Around every limit: in memory, in the row, in a file."""
    async with opened(tmp_path / "spool") as queue:
        content, data = large(queue, size, piece=1000)
        name = message_name(await queue.accept(message(content=content)))
        stored = await queue.read_content(name)
        assert (size > SMALL.inline_limit) == isinstance(stored, Path)
        assert data == (stored.read_bytes() if isinstance(stored, Path) else stored)


async def test_content_is_on_disk_before_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, directory, log: synced in this order."""
    async with opened(tmp_path / "spool") as queue:
        order: list[str] = []
        for name in ("sync_file", "sync_directory", "sync_log"):
            monkeypatch.setattr(durable, name, recording(order, name, getattr(durable, name)))
        content, _ = large(queue)
        await queue.accept(message(content=content))
        assert order == ["sync_file", "sync_directory", "sync_log"]
        monkeypatch.undo()


def recording(order: list[str], name: str, real: Callable[[object], None]) -> Callable[[object], None]:
    def call(argument: object) -> None:
        order.append(name)
        real(argument)

    return call


async def test_content_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block at a time is under way; is_behind tells the writer to stop, on_drain to go on."""
    async with opened(tmp_path / "spool") as queue:
        go = threading.Semaphore(0)
        real = durable.write_parts
        monkeypatch.setattr(durable, "write_parts", lambda fd, data: (go.acquire(), real(fd, data))[1])
        content = queue.content()
        drained = asyncio.Event()
        content.on_drain = drained.set
        for _ in range(40):
            content.write(bytes(65536))
        assert content.pending == 40 * 65536 and content.is_behind
        go.release()
        await drained.wait()
        assert content.pending < 40 * 65536 and not content.is_behind
        go.release(10)
        await queue.accept(message(content=content))
        monkeypatch.undo()


async def test_many_contents_share_what_is_in_memory(tmp_path: Path) -> None:
    """The more are written at once, the less each keeps; one that was given up or is whole counts no more."""
    async with opened(tmp_path / "spool") as queue:
        piece, contents = bytes(65536), [queue.content() for _ in range(60)]
        for _ in range(40):
            for content in contents:
                if not content.is_behind:
                    content.write(piece)
            await asyncio.sleep(0)
        assert max(content.pending for content in contents) <= 512 * 1024 + len(piece)
        for content in contents[1:]:
            content.discard()
        alone = contents[0]
        while alone.pending <= 2**20:
            alone.write(piece)
        assert not alone.is_behind
        await queue.accept(message(content=alone))


async def test_nobody_waits_for_a_drain_that_does_not_come(tmp_path: Path) -> None:
    """What one keeps in memory is too much all of a sudden, because others begin; the disk has nothing to do
    for it, so nothing would ever say "go on"."""
    async with opened(tmp_path / "spool") as queue:
        slow, others = queue.content(), [queue.content() for _ in range(40)]
        drained = asyncio.Event()
        slow.on_drain = drained.set
        slow.write(bytes(2**20))
        await drained.wait()
        slow.write(bytes(2**20 - 1))
        for content in others:
            content.write(bytes(200_000))
        assert slow.pending == 2**20 - 1 and not slow.is_behind
        slow.write(b".")
        assert slow.is_behind
        drained.clear()
        await drained.wait()
        await queue.accept(message(content=slow))
        for content in others:
            content.discard()


async def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may take less than it was given."""
    real = os.write
    async with opened(tmp_path / "spool") as queue:
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:1000])))
        content, data = large(queue, 300_000)
        name = message_name(await queue.accept(message(content=content)))
        monkeypatch.undo()
        path = await queue.read_content(name)
        assert isinstance(path, Path) and data == path.read_bytes()


async def test_discarded_content_leaves_nothing(tmp_path: Path) -> None:
    """Also when a block is being written; discarding twice is fine; a submitted content is the queue's."""
    spool = tmp_path / "spool"
    async with opened(spool) as queue:
        content, _ = large(queue)
        content.discard()
        content.discard()
        content.write(b"more")
        kept, _ = large(queue)
        name = message_name(await queue.accept(message(content=kept)))
        kept.discard()
        with pytest.raises(ValueError, match="before"):
            queue.submit(message(content=kept), lambda number, error: None)
        with pytest.raises(QueueClosed):
            queue.submit(message(content=content), lambda number, error: None)
    assert [name] == content_files(spool)


async def test_content_kept_in_memory_has_a_budget(tmp_path: Path) -> None:
    """Beyond it a lease comes without content; settled leases make room again."""
    async with opened(tmp_path / "spool", Options(reserve=0, ballast=0, memory=250)) as queue:
        leased = leasing(queue)
        for _ in range(3):
            await queue.accept(message(content=b"x" * 100))
        assert [entry.content is not None for entry in leased] == [True, True, False]
        loaded = queue.load_now(leased[2])
        assert loaded is not None and loaded.data == b"x" * 100
        queue.settle(leased[0])
        await queue.accept(message(content=b"x" * 100))
        assert leased[3].content is not None


async def test_after_close_nothing_is_taken_in(tmp_path: Path) -> None:
    """A submit gets QueueClosed, and close() twice is fine."""
    queue = await Queue.open(tmp_path / "spool", SMALL)
    await queue.close()
    await queue.close()
    with pytest.raises(QueueClosed):
        await queue.accept(message())


async def test_close_waits_for_what_was_submitted(tmp_path: Path) -> None:
    """Small and large: done is called before close returns, and the mail is there at the next start."""
    queue = await Queue.open(tmp_path / "spool", SMALL)
    results: list[Exception | None] = []
    content, _ = large(queue)
    for body in (b"small", content):
        queue.submit(message(content=body), lambda number, error: results.append(error))
    await queue.close()
    assert results == [None, None]
    async with opened(tmp_path / "spool") as queue:
        assert len(await queue.search(Filter())) == 2


def test_a_write_that_takes_less_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stopped: in a part, between two, before the first."""
    parts = [b"one", b"", b"two", b"three"]
    whole = b"".join(parts)
    for taken in range(len(whole) + 1):
        monkeypatch.setattr(os, "writev", lambda fd, _, n=taken: os.write(fd, whole[:n]))
        descriptor = os.open(tmp_path / str(taken), os.O_WRONLY | os.O_CREAT)
        durable.write_parts(descriptor, parts)
        os.close(descriptor)
        assert (tmp_path / str(taken)).read_bytes() == whole


async def test_content_in_small_pieces_is_stored_whole(tmp_path: Path) -> None:
    """More of them than one write takes."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        content = queue.content()
        pieces = [b"%07d\n" % number for number in range(60_000)]
        for piece in pieces:
            content.write(piece)
        await queue.accept(message(content=content))
        loaded = await queue.load(leased[0])
        assert loaded is not None and loaded.path is not None
        assert loaded.path.read_bytes() == b"".join(pieces)
        assert loaded.check == crc32(b"".join(pieces))
        queue.settle(leased[0])
