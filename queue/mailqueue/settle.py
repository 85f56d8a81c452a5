"""The end of a lease is recorded."""

from __future__ import annotations

from collections.abc import Sequence

from mailqueue.accept import Accept
from mailqueue.entry import Entry, Recipient, State
from mailqueue.leases import Leases, Mark
from mailqueue.rows import entry_check, milliseconds, pack_recipients
from mailqueue.transaction import Transaction


class Settle:
    """The end of a lease: forgotten when no recipient remains, else at rest again; with its reports."""

    __slots__ = (
        "_counted",
        "_due",
        "_entry",
        "_lane",
        "_leases",
        "_remaining",
        "_reports",
        "octets",
        "refusable",
    )

    def __init__(
        self,
        leases: Leases,
        entry: Entry,
        remaining: Sequence[Recipient],
        due: int,
        counted: bool,
        reports: Sequence[Accept],
        lane: str,
    ) -> None:
        """due in ms, 0: as it was. Recipients are packed when written: do not change them after this."""
        self.refusable = False
        self.octets = sum(report.octets for report in reports)
        self._leases = leases
        self._entry = entry
        self._remaining = remaining
        self._due = due or milliseconds(entry.due)
        self._counted = counted
        self._reports = reports
        self._lane = lane

    def write(self, tx: Transaction) -> None:
        entry = self._entry
        for report in self._reports:
            report.write(tx)
        tx.ended.append(entry)
        if not self._remaining:
            tx.forget(entry.id, entry.size)
            return
        mark = tx.marks.get(entry.id) or self._leases.marks.get(entry.id, Mark.NONE)
        if mark is Mark.DROP:
            tx.forget(entry.id, entry.size)
        else:
            self._rest(tx, self._rest_state(mark))

    def _rest_state(self, mark: Mark) -> State:
        if mark is Mark.HOLD:
            return State.HELD
        if mark is Mark.QUARANTINE:
            return State.QUARANTINED
        return State.INCOMING if self._entry.fresh and not self._counted else State.DEFERRED

    def _rest(self, tx: Transaction, state: State) -> None:
        entry, lane = self._entry, self._lane
        packed = pack_recipients(self._remaining)
        check = entry_check(entry.id, lane, entry.sender, entry.size, packed)
        attempts = entry.attempts + self._counted
        tx.change((lane, state, self._due, attempts, packed, check, entry.id))
        tx.count(lane, state, entry.size, self._due)
        if state <= State.DEFERRED and (lane != entry.lane or self._due <= tx.now):
            tx.due[lane] = None

    def succeed(self) -> None:
        """Nobody waits for it."""

    def fail(self, error: Exception) -> None:
        """Nobody waits for it; on disk the entry is still leased."""
