"""Reading a stored message back, and finding out whether it is still what was stored."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from mailqueue.entry import Loaded
from mailqueue.rows import are_numbers, message_check

_QUERY = "SELECT meta, size, crc, file, check_, content FROM message WHERE id=?"


def load(db: sqlite3.Connection, message: int, file: Path) -> Loaded | str:
    """What was stored, or why it cannot be trusted. file: where its content is if not in the row."""
    row = db.execute(_QUERY, (message,)).fetchone()
    if row is None:
        return "its row is missing"
    found = judge(message, row)
    return _load_file(found, file) if isinstance(found, Loaded) and found.data is None else found


def judge(message: int, row: Sequence[Any]) -> Loaded | str:
    """A row of _QUERY's columns: what was stored (data None: in its file), or why it cannot be trusted."""
    meta, size, crc, in_file, check, content = row
    if not (isinstance(meta, bytes) and isinstance(content, bytes | None) and are_numbers(*row[1:5])):
        return "a value of its row has the wrong type"  # a flipped bit in the record's header
    if message_check(message, meta, size, crc, in_file) != check:
        return "the checksum of the message is wrong"
    if in_file:
        return Loaded(meta, size, crc)
    if content is None or len(content) != size or crc32(content) != crc:
        return "the checksum of the content is wrong"
    return Loaded(meta, size, crc, data=content)


def _load_file(loaded: Loaded, file: Path) -> Loaded | str:
    try:
        found = file.lstat()
    except FileNotFoundError:
        return "its content file is missing"
    if not stat.S_ISREG(found.st_mode):  # a link could lead anywhere, and a FIFO would keep us waiting
        return "its content file is no regular file"
    if found.st_size != loaded.size:
        return f"its content file has {found.st_size} octets instead of {loaded.size}"
    loaded.path = file
    return loaded
