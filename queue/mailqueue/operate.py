"""What operators do to entries: hold, release, retry, drop. In chunks, each a job of the group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum

from mailqueue.database import damage
from mailqueue.entry import Filter, State
from mailqueue.leases import Leases, Mark
from mailqueue.rows import is_known
from mailqueue.transaction import Transaction

CHUNK = 200  # entries in one job


class Action(Enum):
    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    DROP = "drop"


Found = tuple[int, str, State, int, int, bool]  # id, lane, state, attempts, size, is it due


class Change:
    """One chunk. The future gets the number of entries changed, marks on leased ones included."""

    refusable = False
    octets = 0

    def __init__(
        self, action: Action, f: Filter, ids: Sequence[int], leases: Leases, future: asyncio.Future[int]
    ) -> None:
        self._action = action
        self._states = f.states
        self._ids = list(ids)
        self._leases = leases
        self._future = future
        self._changed = 0

    def write(self, tx: Transaction) -> None:
        tx.flush()
        self._changed = 0
        marks = ",".join("?" * len(self._ids))
        query = f"SELECT id, lane, state, attempts, size, due<=? FROM entry WHERE id IN ({marks})"
        for number, lane, state, attempts, size, due in tx.db.execute(query, (tx.now, *self._ids)).fetchall():
            if self._states and state and state not in self._states:
                continue  # it has moved on since it was found; what was leased meanwhile is still meant
            if not is_known(lane, state, size, attempts):
                raise damage(f"entry {number} has no state")
            found = (number, lane, State(state), attempts, size, due == 1)
            self._changed += self._mark(tx, number) if not state else _CHANGES[self._action](tx, found)

    def _mark(self, tx: Transaction, entry: int) -> bool:
        present = tx.marks.get(entry) or self._leases.marks.get(entry, Mark.NONE)
        wanted = _MARKS.get((self._action, present))
        if wanted is None:
            return False
        tx.marks[entry] = wanted
        return True

    def succeed(self) -> None:
        if not self._future.done():
            self._future.set_result(self._changed)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


# What an action makes of a leased entry's mark; pairs that are missing change nothing.
_MARKS = {
    (Action.HOLD, Mark.NONE): Mark.HOLD,
    (Action.RELEASE, Mark.HOLD): Mark.NONE,
    (Action.DROP, Mark.NONE): Mark.DROP,
    (Action.DROP, Mark.HOLD): Mark.DROP,
    (Action.DROP, Mark.QUARANTINE): Mark.DROP,
}


def _hold(tx: Transaction, found: Found) -> bool:
    number, lane, state, _, size, _ = found
    if state not in (State.INCOMING, State.DEFERRED):
        return False
    tx.db.execute("UPDATE entry SET state=3 WHERE id=?", (number,))
    tx.uncount(lane, state, size)
    tx.count(lane, State.HELD, size, 0)
    return True


def _release(tx: Transaction, found: Found) -> bool:
    number, lane, state, attempts, size, _ = found
    if state is not State.HELD:
        return False
    following = State.DEFERRED if attempts else State.INCOMING
    tx.db.execute("UPDATE entry SET state=?, due=?, crashes=0 WHERE id=?", (following, tx.now, number))
    tx.uncount(lane, state, size)
    tx.count(lane, following, size, tx.now)
    tx.hasten(lane)
    return True


def _retry(tx: Transaction, found: Found) -> bool:
    number, lane, state, _, _, due = found
    if state not in (State.INCOMING, State.DEFERRED):
        return False
    if not due:  # else it waits for its lane alone: a long line is not written anew
        tx.db.execute("UPDATE entry SET due=? WHERE id=?", (tx.now, number))
    tx.hasten(lane)
    return True


def _drop(tx: Transaction, found: Found) -> bool:
    number, lane, state, _, size, _ = found
    tx.uncount(lane, state, size)
    tx.forget(number, size)
    return True


_CHANGES: dict[Action, Callable[[Transaction, Found], bool]] = {
    Action.HOLD: _hold,
    Action.RELEASE: _release,
    Action.RETRY: _retry,
    Action.DROP: _drop,
}
