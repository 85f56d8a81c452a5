"""`via: capture:DIR`: a message becomes two files instead of being sent, for staging systems and demos.

    DIR/ID-ENTRY.json   the envelope: sender, recipients with their options, what we know of the client
    DIR/ID-ENTRY.eml    the content as a mail program reads it: un-stuffed, otherwise byte for byte

ID is the queue id, ENTRY the number of the lease: a message may go to one directory by two lanes. Both are
written under a hidden name, synced and renamed, the .eml last: whoever sees it can read both. An attempt
that is repeated after a crash replaces its own files, so that a capture is never a duplicate.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from relay.delivery.content_reader import ContentReader
from relay.delivery.job import Job, Kind, Verdict
from relay.outcome import Deferred, Delivered
from relay.reply import Reply
from relay.wire import unstuff

_FULL = (errno.ENOSPC, errno.EDQUOT)


class CorruptContent(Exception):
    """What is on disk is not what was accepted; nothing was captured."""


async def capture(directory: Path, job: Job) -> Verdict:
    """Write job.todo's message into directory (made when missing, its parent must exist); fills job.results.

    A directory that cannot be written defers all of them, with lane="capture". Never raises OSError.
    """
    host = f"capture:{directory}"
    try:
        name = await asyncio.to_thread(write, directory, job)
    except CorruptContent as error:
        return Verdict(Kind.CORRUPT, text=str(error))
    except OSError as error:
        enhanced = "4.3.1" if error.errno in _FULL else "4.3.0"
        text = f"cannot write to {directory}: {error.strerror}"
        job.results.update(dict.fromkeys(job.todo, Deferred(Reply(0, enhanced, text), host, "connect")))
        return Verdict(lane="capture")
    job.results.update(dict.fromkeys(job.todo, Delivered(Reply(0, "2.0.0", f"captured as {name}"), host)))
    return Verdict()


def write(directory: Path, job: Job) -> str:
    """The name under which both files are now durable. OSError, CorruptContent. Blocks: not on the loop."""
    directory.mkdir(mode=0o700, exist_ok=True)
    name = f"{job.entry.name}-{job.entry.id}"
    envelope = json.dumps(_envelope(job), indent=2, ensure_ascii=False).encode("utf-8", "surrogateescape")
    hidden = [directory / f".{name}.json.part", directory / f".{name}.eml.part"]
    try:
        _write_synced(hidden[0], [envelope, b"\n"])
        _write_synced(hidden[1], _plain(job))
        hidden[0].replace(directory / f"{name}.json")
        hidden[1].replace(directory / f"{name}.eml")
    except BaseException:
        for path in hidden:
            path.unlink(missing_ok=True)
        raise
    _sync_directory(directory)
    return f"{name}.eml"


def _envelope(job: Job) -> dict[str, object]:
    recipients = [job.entry.recipients[index] for index in job.todo]
    return {
        "id": job.entry.name,
        "accepted": job.entry.accepted,
        "attempts": job.entry.attempts,
        "recipients": [{"address": r.address, "options": r.options} for r in recipients],
        **asdict(job.envelope),
    }


def _plain(job: Job) -> Iterator[bytes]:
    """The content un-stuffed, in pieces. CorruptContent after the last piece or before the first; OSError."""
    loaded = job.loaded
    if loaded.data is not None:  # verified when it was loaded
        yield unstuff(loaded.data)
        return
    if loaded.path is None:
        raise CorruptContent("content was not loaded")
    reader = ContentReader(loaded.path, loaded.size, loaded.check)
    try:
        yield from _unstuffed(iter(reader.read, bytearray()))
        if reader.fault:
            raise CorruptContent(reader.fault)
    finally:
        reader.close()


def _unstuffed(blocks: Iterable[bytes | bytearray]) -> Iterator[bytes]:
    """wire.unstuff over blocks cut anywhere: a line end at the end of a block waits for the next block."""
    kept: bytes | bytearray = b""
    at_start = True
    for block in blocks:
        joined = kept + block
        if at_start and joined:
            joined = joined.removeprefix(b".")
            at_start = False
        ready = len(joined) - (2 if joined.endswith(b"\r\n") else joined.endswith(b"\r"))
        kept = joined[ready:]
        yield bytes(joined[:ready].replace(b"\r\n.", b"\r\n"))
    yield bytes(kept)


def _write_synced(path: Path, pieces: Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
