"""Entries and bytes at rest by state, over all lanes: in memory, and in four rows kept with every change."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from mailqueue.entry import State
from mailqueue.transaction import LaneChange

RESTING = (State.INCOMING, State.DEFERRED, State.HELD, State.QUARANTINED)


class Totals:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._counts = [0] * 8
        for state, entries, octets in db.execute("SELECT state, entries, bytes FROM total"):
            self._counts[2 * state - 2 : 2 * state] = entries, octets

    def of(self, state: State) -> tuple[int, int]:
        """(entries, bytes)"""
        return self._counts[2 * state - 2], self._counts[2 * state - 1]

    def write(self, db: sqlite3.Connection, changes: Iterable[LaneChange]) -> list[int]:
        """The counters after these changes, written; they count once keep() is called."""
        counts = self._counts.copy()
        for change in changes:
            for place, difference in enumerate(change.counts):
                counts[place] += difference
        rows = [
            (counts[place], counts[place + 1], place // 2 + 1)
            for place in range(0, 8, 2)
            if counts[place : place + 2] != self._counts[place : place + 2]
        ]
        if rows:
            db.executemany("UPDATE total SET entries=?, bytes=? WHERE state=?", rows)
        return counts

    def keep(self, counts: list[int]) -> None:
        self._counts = counts
