"""A spool as it lies there, read from a copy: nobody is disturbed, the next start finds what a crash left."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faults.letter import is_report, read_notice

from mailqueue import State, message_name

_ENTRIES = """
    SELECT entry.id, entry.state, entry.sender, entry.recipients, message.content
    FROM entry JOIN message ON message.id = entry.id / 1024 ORDER BY entry.id
"""


@dataclass(frozen=True, slots=True)
class Lying:
    """An entry. name: its queue id; a bounce is named by its Message-ID (letter.read_notice)."""

    name: str
    state: State
    recipients: tuple[str, ...]


def lying(spool: Path) -> list[Lying]:
    """sqlite3.DatabaseError: it was being written just now."""
    with tempfile.TemporaryDirectory() as directory:  # not on the disk that may be full
        copy = Path(directory) / "queue.db"
        for suffix in ("", "-wal"):
            source = spool / f"queue.db{suffix}"
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        if not copy.exists():
            return []
        database = sqlite3.connect(copy)
        try:
            return [_entry(*row) for row in database.execute(_ENTRIES).fetchall()]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # the first start was cut short
                return []
            raise
        finally:
            database.close()


def in_flight(spool: Path) -> tuple[str, ...]:
    """Who is leased in a spool that nobody owns."""
    return tuple(entry.name for entry in lying(spool) if entry.state is State.ACTIVE)


def _entry(number: int, state: int, sender: str, recipients: str, content: bytes | None) -> Lying:
    plain = (content or b"").replace(b"\r\n..", b"\r\n.")
    name = message_name(number >> 10)
    if not sender and is_report(plain):
        name = read_notice(plain).queue_id
    return Lying(name, State(state), tuple(recipient[0] for recipient in json.loads(recipients)))
