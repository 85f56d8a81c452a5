"""A log with a hole: SQLite ends at the first bad frame; what was committed behind it would be gone unseen.

A crash leaves at most a torn end, in which nothing was acknowledged. Where a whole commit stands behind a bad
frame, bits have rotted, or a power cut has kept later blocks and not earlier ones (then nothing of it was
acknowledged either, and nobody can tell). So the queue goes on with what stands before the hole, and the log
is kept for salvage, with a list of the messages that stand in it and not in the database.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from struct import Struct

from mailqueue import durable
from mailqueue.damaged import ONLY, Damaged
from mailqueue.pages import Pages

_HEADER, _FRAME = 32, Struct(">6I")


def has_more(log: Path, frames: int, size: int) -> bool:
    """Does a commit of the same log stand behind the `frames` that SQLite took? size: of a page.

    Reads 24 octets of each frame, and is only a suspicion: Pages knows.
    """
    try:
        descriptor = durable.open_regular(log)
    except FileNotFoundError:
        return False
    try:
        first = _frame(descriptor, _HEADER)
        salts = first[2:4]
        offset = _HEADER + frames * (_FRAME.size + size)
        while salts and (frame := _frame(descriptor, offset)):
            if frame[2:4] == salts and frame[1]:
                return True
            offset += _FRAME.size + size
    finally:
        os.close(descriptor)
    return False


def _frame(descriptor: int, offset: int) -> tuple[int, ...]:
    head = os.pread(descriptor, _FRAME.size, offset)
    return _FRAME.unpack(head) if len(head) == _FRAME.size else ()


def keep(log: Path, target: Path, db: sqlite3.Connection) -> int | None:
    """Keep a copy of the log in the directory `target`, made when it is needed; returns how many messages
    only the log has, None: there is no hole. db: all that SQLite took of it."""
    missing = _missing(log.parent, db)
    if missing is not None:
        durable.make_directory(target)
        durable.copy(log, target / log.name)
        durable.put(target / ONLY, "".join(f"{number}\n" for number in missing).encode())
        return len(missing)
    return None


def _missing(spool: Path, db: sqlite3.Connection) -> list[int] | None:
    with Pages(spool, only_log=True) as pages:
        if not pages.log.broken:
            return None
        damaged = Damaged(pages, spool / "content")
        damaged.scan()
        query = "SELECT 1 FROM message WHERE id=?"
        return [number for number in damaged.numbers() if not db.execute(query, (number,)).fetchone()]
