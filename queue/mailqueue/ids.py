"""Message ids: the time of acceptance in microseconds, never the same twice, also when the clock goes back.

The last id is written ahead of itself by one second, so that most transactions do not write it: after a crash
the first ids may lie up to a second ahead of the clock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

_AHEAD = 1_000_000  # µs
_WRITE = "UPDATE meta SET value=? WHERE key='last'"


class Ids:
    def __init__(self, last: int, now: Callable[[], float]) -> None:
        self._last = last
        self._written = last
        self._now = now

    def new(self) -> int:
        self._last = max(self._last + 1, int(self._now() * 1e6))
        return self._last

    def pass_by(self, number: int) -> None:
        """This one is in use: go on behind it."""
        self._last = max(self._last, number)

    def write(self, db: sqlite3.Connection) -> int:
        """Write the mark when ids have passed it; returns the mark, for keep()."""
        if self._last <= self._written:
            return self._written
        mark = self._last + _AHEAD
        db.execute(_WRITE, (mark,))
        return mark

    def keep(self, mark: int) -> None:
        self._written = mark

    def write_exactly(self, db: sqlite3.Connection) -> None:
        """At a clean close."""
        db.execute(_WRITE, (self._last,))
