"""What goes over a connection and what comes back: one entry on its way to one host.

A lane makes a `Job` for a leased entry, gives it to `Connection.start` (or `capture`), and gets it back
with a `Verdict`. The outcomes stand in the job; the verdict says what else the lane must know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from mailqueue.entry import Entry, Loaded
from relay.envelope import Envelope
from relay.outcome import Outcome


@dataclass(slots=True)
class Job:
    """One leased entry, its facts and its content.

    todo: indices into entry.recipients to be sent by the next start(); for the next host of the same attempt
    the lane sets it to `Verdict.elsewhere`. results: index -> outcome; a later host overwrites an earlier one
    (see verdict.combine for the one exception). An index without a result has not been tried.
    """

    entry: Entry
    envelope: Envelope
    loaded: Loaded
    todo: Sequence[int]
    results: dict[int, Outcome] = field(default_factory=dict)


class Kind(Enum):
    """How a start() ended."""

    DONE = "done"  # every index of todo has a result
    FRESH = (
        "fresh"  # a kept connection was dead: not an attempt, no result written; start again on a fresh one
    )
    CORRUPT = (
        "corrupt"  # the content on disk is not what was accepted: cut before the final dot, see Verdict.text
    )


@dataclass(slots=True)
class Verdict:
    """What the lane is told besides the outcomes.

    elsewhere: those of todo that are Deferred, or Failed for want of a capability, and may be tried at
    another host in this attempt. lane: "" or one of events.SUSPEND_REASONS when the
    fault is the route's or the host's, not the message's ("auth" for 53x, "capture" for a directory that
    cannot be written). With CORRUPT, recipients refused before the cut have their results; the others have
    none. Seconds are of the job's last transaction, 0.0 for what was not reached.
    """

    kind: Kind = Kind.DONE
    elsewhere: Sequence[int] = ()
    lane: str = ""
    text: str = ""  # CORRUPT: what is wrong, for the log
    envelope: float = 0.0  # from MAIL to the answer to DATA
    data: float = 0.0  # writing the content (0.0 for what goes in one write)
    final: float = 0.0  # from the final dot to its reply
