"""A queue as a dictionary: what mailqueue should hold after every call, and what a crash may leave of it.

`alternatives` is for what was asked for and has not been answered: after a crash each entry must be as one of
them says, and whatever belongs together (a message's entries, a settle and its report) must agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from mailqueue import Options, Row, State

LANES = ("a", "b", "c", "moved", "reports")  # mail comes in by the first three
LARGEST_INLINE = 4096  # octets
lanes = st.sampled_from(LANES[:3])
# A message: half the time all of its lanes have room; the largest size gets a file; many: recipients in each.
mail = st.fixed_dictionaries(
    {
        "lanes": st.sets(lanes, min_size=1),
        "admitted": st.just(set(LANES[:3])) | st.sets(lanes),
        "size": st.sampled_from([6, 3000, 9000]),
        "many": st.integers(1, 3),
    }
)
# The end of a lease: see settled().
ending = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["done", "part", "defer", "back", "move", "report"]),
        "wait": st.sampled_from([0.5, 30.0, 300.0]),
    }
)


@dataclass(frozen=True, slots=True)
class Known:
    """An entry at rest, or as it was before its lease. content: all of it."""

    lane: str
    state: State
    due: float
    recipients: tuple[str, ...]
    content: bytes
    attempts: int = 0
    crashes: int = 0

    @property
    def waits(self) -> bool:
        return self.state in (State.INCOMING, State.DEFERRED)


def after_crash(known: Known, now: float, options: Options) -> Known:
    """What a start makes of a lease."""
    crashes = known.crashes + 1
    state = State.HELD if crashes >= options.crash_limit else State.DEFERRED
    return replace(known, state=state, crashes=crashes, due=now + options.recovery_pause)


def settled(known: Known, kind: str, due: float, mark: str = "") -> Known | None:
    """What the end of a lease makes of it; None: forgotten."""
    if kind in ("done", "report") or mark == "drop" or (kind == "part" and len(known.recipients) == 1):
        return None
    if kind in ("defer", "part"):
        recipients = known.recipients[1:] if kind == "part" else known.recipients
        known = replace(
            known, recipients=recipients, due=due, attempts=known.attempts + 1, state=State.DEFERRED
        )
    if kind == "move":
        known = replace(known, lane="moved")
    return replace(known, state=State.HELD) if mark == "hold" else known


def operated(known: Known, action: str, now: float) -> Known | None:
    """What an operator makes of an entry at rest."""
    if action == "drop":
        return None
    if action == "hold" and known.waits:
        return replace(known, state=State.HELD)
    if action == "retry" and known.waits:
        return replace(known, due=min(known.due, now))  # what is due already is not written anew
    if action == "release" and known.state is State.HELD:
        state = State.DEFERRED if known.attempts else State.INCOMING
        return replace(known, state=state, due=now, crashes=0)
    return known


def marked(mark: str, action: str) -> str:
    """What an operator makes of the mark of a leased entry."""
    if action == "drop" or (action == "hold" and not mark):
        return action
    return "" if action == "release" and mark == "hold" else mark


def fits(row: Row | None, known: Known | None) -> bool:
    """Is this row as the model says? The due time of what is held is nobody's concern."""
    if row is None or known is None:
        return row is None and known is None
    found = (
        row.lane,
        row.state,
        row.attempts,
        row.crashes,
        tuple(r.address for r in row.recipients),
        row.size,
    )
    wanted = (known.lane, known.state, known.attempts, known.crashes, known.recipients, len(known.content))
    return found == wanted and (known.state is State.HELD or abs(row.due - known.due) < 0.002)


def counts(known: Iterable[tuple[Known, bool]]) -> dict[tuple[str, State], tuple[int, int]]:
    """(lane or "" for all, state) -> entries and bytes; True: leased."""
    found: dict[tuple[str, State], tuple[int, int]] = {}
    for entry, leased in known:
        state = State.ACTIVE if leased else entry.state
        for lane in (entry.lane, ""):
            number, octets = found.get((lane, state), (0, 0))
            found[lane, state] = (number + 1, octets + len(entry.content))
    return found
