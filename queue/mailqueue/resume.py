"""Lanes that an earlier life of the queue left claimed or postponed go back to the schedule.

Why they were postponed is not known any more, so they are offered as soon as something in them is due. The
start itself sees to some of them, the rest goes in the background: a hundred thousand lanes in trouble must
not delay it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from mailqueue.schedule import head
from mailqueue.schema import NEVER, NO_TEXT
from mailqueue.transaction import Transaction

AT_START = 1000  # lanes
CHUNK = 100  # lanes in one job
_CLAIMED = "SELECT name FROM lane INDEXED BY lane_next WHERE next IS NULL AND name>? ORDER BY name LIMIT ?"
_POSTPONED = "SELECT name FROM lane INDEXED BY lane_postponed WHERE not_before>0 AND not_before<=? LIMIT ?"
_LATEST = "SELECT max(not_before) FROM lane INDEXED BY lane_postponed WHERE not_before>0"
_SET_NEXT = "UPDATE lane SET next=?, not_before=0 WHERE name=?"


def resume_some(db: sqlite3.Connection, now: int, far: int) -> int | None:
    """In the start's transaction; now, far: as for Schedule. Returns None; where there are more, the latest
    time (ms) that one of them is postponed to."""
    lanes = _find(db, "", NEVER, AT_START)
    for lane in lanes:
        earliest = head(db, lane, now, far)
        db.execute(_SET_NEXT, (NEVER if earliest is None else earliest, lane))
    if len(lanes) < AT_START:
        return None
    latest: int | None = db.execute(_LATEST).fetchone()[0]
    return latest or 0


class Resume:
    """Some more of them, and again. latest: what is postponed further was so by this life."""

    refusable = False
    octets = 0

    def __init__(
        self, latest: int, is_claimed: Callable[[str], bool], again: Callable[[Resume], None], after: str = ""
    ) -> None:
        """is_claimed: by this life. again: gets the next job, if there are more. after: the last lane, by
        name, of those that were claimed and are done."""
        self._latest = latest
        self._is_claimed = is_claimed
        self._again = again
        self._after = after
        self._next: Resume | None = None

    def write(self, tx: Transaction) -> None:
        lanes = _find(tx.db, self._after, self._latest, CHUNK)
        for lane in lanes:
            if not self._is_claimed(lane) and NO_TEXT not in str(lane):  # that is for claim() to find
                tx.hasten(lane)
        following = Resume(self._latest, self._is_claimed, self._again, max(lanes, default=""))
        self._next = following if len(lanes) == CHUNK else None

    def succeed(self) -> None:
        if self._next is not None:
            self._again(self._next)

    def fail(self, error: Exception) -> None:
        """The next start finds them."""


def _find(db: sqlite3.Connection, after: str, latest: int, limit: int) -> list[str]:
    """Claimed ones by name, then postponed ones."""
    found = db.execute(_CLAIMED, (after, limit)).fetchall()
    if len(found) < limit:
        found += db.execute(_POSTPONED, (latest, limit - len(found))).fetchall()
    return [lane for (lane,) in found]
