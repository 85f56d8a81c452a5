"""What SQLite committed, one by one, from the writes that strace saw: the queue as a sync would keep it.

The database and its log are copied before the trace begins; every traced write is put into the copies, and
after the last frame of each transaction the copy is opened and read. So an order checker knows not only that
something was written but what it meant.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.letter import is_report, read_notice
from faults.strace import Call

from mailqueue import message_name

LOG, DATABASE = "queue.db-wal", "queue.db"
# The size of the database after a commit stands at 4 (https://www.sqlite.org/fileformat2.html#walformat).
FRAME_HEADER = 24  # octets
LOG_HEADER = 32


@dataclass(slots=True)
class Commit:
    """A transaction, first to last write. entries: (queue id, lane) -> recipients; failed: who is given up by
    the bounces that are in the queue after it."""

    first: Call
    last: Call
    entries: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Base:
    """The files before the trace."""

    database: bytes
    log: bytes

    @staticmethod
    def of(spool: Path) -> Base:
        log = spool / LOG
        return Base((spool / DATABASE).read_bytes(), log.read_bytes() if log.exists() else b"")


def commits(base: Base, calls: Sequence[Call]) -> Iterator[Commit]:
    """Every transaction in the trace, with the queue after it."""
    files = {DATABASE: bytearray(base.database), LOG: bytearray(base.log)}
    first: Call | None = None
    committing = False
    for call in calls:
        name = Path(call.file).name
        if name not in files or not call.worked:
            continue
        if call.name == "ftruncate":
            del files[name][int(call.text.rpartition(", ")[2]) :]
        if call.name != "pwrite64":
            continue
        _put(files[name], call.offset, call.data)
        if name != LOG or call.offset < LOG_HEADER:
            continue
        first = first or call
        if len(call.data) == FRAME_HEADER:
            committing = call.data[4:8] != bytes(4)
        elif committing:  # the page of the last frame
            commit = Commit(first, call)
            _read(files, commit)
            yield commit
            first, committing = None, False


def _put(file: bytearray, offset: int, data: bytes) -> None:
    if len(file) < offset:
        file.extend(bytes(offset - len(file)))
    file[offset : offset + len(data)] = data


def _read(files: dict[str, bytearray], commit: Commit) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            (Path(directory) / name).write_bytes(content)
        database = sqlite3.connect(Path(directory) / DATABASE)
        try:
            for number, lane, recipients in database.execute("SELECT id, lane, recipients FROM entry"):
                addresses = tuple(recipient[0] for recipient in json.loads(recipients))
                commit.entries[message_name(number >> 10), lane] = addresses
            for (content,) in database.execute("SELECT content FROM message WHERE content IS NOT NULL"):
                if is_report(content):
                    commit.failed.update(read_notice(content.replace(b"\r\n..", b"\r\n.")).recipients)
        finally:
            database.close()
