"""Counts, bytes and ages as they are shown: kept numbers, and point queries for the oldest."""

from __future__ import annotations

import sqlite3

from mailqueue.entry import LaneTally, State, Tally
from mailqueue.leases import Leases
from mailqueue.rows import accepted_at, message_of
from mailqueue.schema import NEVER
from mailqueue.totals import RESTING, Totals

_LANE = "SELECT * FROM lane WHERE name=?"
_LANES = "SELECT * FROM lane WHERE name>? ORDER BY name LIMIT ?"
_OLDEST = "SELECT id FROM entry INDEXED BY entry_state WHERE state=? ORDER BY id LIMIT 1"
_LATEST = {
    state: f"SELECT due FROM entry INDEXED BY entry_late WHERE state={state} ORDER BY due LIMIT 1"
    for state in (1, 2)
}
_OLDEST_OF_LANE = {
    state: f"SELECT id FROM entry INDEXED BY entry_lane WHERE lane=? AND state={state} ORDER BY id LIMIT 1"
    for state in (1, 2, 3, 4)
}
_DUE_OF_LANE = {
    state: f"SELECT due FROM entry INDEXED BY entry_due WHERE lane=? AND state={state} ORDER BY due LIMIT 1"
    for state in (1, 2)
}

LaneRow = tuple[str, int, int, int, int, int, int, int, int, int | None, int]


def stats(db: sqlite3.Connection, totals: Totals, leases: Leases) -> dict[State, Tally]:
    """All states, empty ones too."""
    found = {State.ACTIVE: Tally(leases.entries, leases.bytes)}
    for state in RESTING:
        found[state] = Tally(*totals.of(state))
    for state, tally in found.items():
        if tally.entries:
            tally.oldest = _accepted(db.execute(_OLDEST, (state,)).fetchone())
            if state in _LATEST:
                tally.oldest_due = _due(db.execute(_LATEST[state]).fetchone())
    return found


def lane_tally(db: sqlite3.Connection, lane: str, leases: Leases) -> LaneTally:
    row = db.execute(_LANE, (lane,)).fetchone()
    return with_leases(LaneTally(lane) if row is None else _tally_of(db, row), leases)


def lanes(db: sqlite3.Connection, after: str, limit: int) -> list[LaneTally]:
    """Lanes with entries at rest, by name. Runs in a thread."""
    return [_tally_of(db, row) for row in db.execute(_LANES, (after, limit)).fetchall()]


def with_active_lanes(found: list[LaneTally], after: str, limit: int, leases: Leases) -> list[LaneTally]:
    """Add the lanes whose entries are all out: on disk they have no row."""
    last = found[-1].lane if len(found) == limit else None
    known = {tally.lane for tally in found}
    missing = [
        LaneTally(lane)
        for lane in leases.lanes
        if lane > after and lane not in known and (last is None or lane < last)
    ]
    everything = sorted(found + missing, key=lambda tally: tally.lane)[:limit]
    return [with_leases(tally, leases) for tally in everything]


def with_leases(tally: LaneTally, leases: Leases) -> LaneTally:
    active = leases.lanes.get(tally.lane)
    if active is not None:
        tally.states[State.ACTIVE] = Tally(active.entries, active.bytes)
    return tally


def _tally_of(db: sqlite3.Connection, row: LaneRow) -> LaneTally:
    lane, following = row[0], row[9]
    tally = LaneTally(lane, next=following / 1000 if following is not None and following < NEVER else 0.0)
    for state in RESTING:
        entries, octets = int(row[2 * state - 1] or 0), int(row[2 * state] or 0)
        if entries:
            oldest = _accepted(db.execute(_OLDEST_OF_LANE[state], (lane,)).fetchone())
            due = _due(db.execute(_DUE_OF_LANE[state], (lane,)).fetchone()) if state in _DUE_OF_LANE else 0.0
            tally.states[state] = Tally(entries, octets, oldest, due)
    return tally


def _accepted(row: tuple[int] | None) -> float:
    return accepted_at(message_of(row[0])) if row else 0.0


def _due(row: tuple[int] | None) -> float:
    return row[0] / 1000 if row else 0.0
