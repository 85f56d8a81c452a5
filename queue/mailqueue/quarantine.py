"""A message that is no longer what was stored is kept, counted, reported, and never sent."""

from __future__ import annotations

from collections.abc import Callable

from mailqueue.database import damage
from mailqueue.entry import Entry, State, message_name
from mailqueue.leases import Mark
from mailqueue.rows import entry_range, is_known
from mailqueue.transaction import Transaction


class Quarantine:
    """All entries of a damaged message are put aside. given_back: the lease that found it, if any."""

    refusable = False
    octets = 0

    def __init__(
        self, message: int, reason: str, given_back: Entry | None, tell: Callable[[str, str], None]
    ) -> None:
        self._message = message
        self._reason = reason
        self._given_back = given_back
        self._tell = tell
        self._is_news = False

    def write(self, tx: Transaction) -> None:
        tx.flush()
        self._is_news = False
        known = self._given_back
        if known is not None:
            tx.ended.append(known)
        query = "SELECT id, lane, state, size FROM entry WHERE id BETWEEN ? AND ?"
        for number, lane, state, size in tx.db.execute(query, entry_range(self._message)).fetchall():
            if state == State.QUARANTINED:
                continue
            if not is_known(lane, state, size):
                raise damage(f"entry {number} has no state")
            self._is_news = True
            if state == State.ACTIVE and (known is None or number != known.id):
                tx.marks[number] = Mark.QUARANTINE
                continue
            if state != State.ACTIVE:
                tx.uncount(lane, state, size)
            tx.count(lane, State.QUARANTINED, size, 0)
            tx.db.execute("UPDATE entry SET state=4 WHERE id=?", (number,))

    def succeed(self) -> None:
        if self._is_news:
            self._tell(message_name(self._message), self._reason)

    def fail(self, error: Exception) -> None:
        """It stays as it was; the next process finds it again."""
