"""Content files without a message: what a crash between a file and its row leaves."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailqueue import durable
from mailqueue.entry import message_name, message_number
from mailqueue.schema import connect_reader

_LIMIT = 2**52  # microseconds since the epoch: the year 2112


@dataclass(slots=True)
class Sweep:
    removed: int = 0
    foreign: int = 0  # names that are no queue ids, and files from before this database: not ours to judge


def sweep(database: Path, directory: Path, born: int, started: int, stop: Callable[[], bool]) -> Sweep:
    """Remove orphans. In a thread beside a queue at work: files from `started` on are not its business."""
    found = Sweep()
    db = connect_reader(database)
    try:
        for name in _names(directory):
            if stop():
                break
            number = _number(name)
            if number is None or (number < born and not _has_row(db, number)):
                found.foreign += 1
            elif born <= number < started and not _has_row(db, number):
                found.removed += durable.remove(directory / name)
    finally:
        db.close()
    return found


def newest(directory: Path) -> int:
    """The highest id among the content files, 0 without any; names that could be no id are left out."""
    numbers = (_number(name) for name in _names(directory))
    return max((number for number in numbers if number is not None and number < _LIMIT), default=0)


def _names(directory: Path) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.name


def _number(name: str) -> int | None:
    try:
        number = message_number(name)
    except ValueError:
        return None
    return number if message_name(number) == name else None


def _has_row(db: sqlite3.Connection, number: int) -> bool:
    return db.execute("SELECT 1 FROM message WHERE id=? AND file=1", (number,)).fetchone() is not None
