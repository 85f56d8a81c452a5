"""What is leased in a spool that nobody owns: read from a copy, the next start finds what the crash left."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from faults.letter import is_report, read_notice

from mailqueue import message_name

_LEASED = """
    SELECT entry.id, sender, message.content FROM entry JOIN message ON message.id = entry.id / 1024
    WHERE state = 0 ORDER BY entry.id
"""


def in_flight(spool: Path) -> tuple[str, ...]:
    """The queue id of each leased entry; a bounce is named by its Message-ID (letter.read_notice)."""
    with tempfile.TemporaryDirectory(dir=spool.parent) as directory:
        copy = Path(directory) / "queue.db"
        for suffix in ("", "-wal"):
            source = spool / f"queue.db{suffix}"
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        if not copy.exists():
            return ()
        database = sqlite3.connect(copy)
        try:
            return tuple(_name(*row) for row in database.execute(_LEASED).fetchall())
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the first start was cut short
                return ()
            raise
        finally:
            database.close()


def _name(entry: int, sender: str, content: bytes | None) -> str:
    plain = (content or b"").replace(b"\r\n..", b"\r\n.")
    return read_notice(plain).queue_id if not sender and is_report(plain) else message_name(entry >> 10)
