"""What one attempt of one entry ended as: outcomes per recipient in, what the queue has to do out.

Pure: values and numbers in, a `Conclusion` out; the scheduler gives it to `Queue.settle` and makes the
reports. The rules are promises 3, 9 and 11: what failed in this
round becomes one report, who stays carries the last reply, an ambiguous end waits ten minutes, an entry that
is old and was really tried expires, a warning of delay is sent once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mailqueue.entry import Entry, Recipient
from relay.config.model import Retry
from relay.delivery.retry import AMBIGUOUS_WAIT, expired, hint, next_due
from relay.delivery.verdict import on_age
from relay.outcome import Deferred, Delivered, Failed, Outcome
from relay.reply import Reply

Results = Sequence[tuple[Recipient, Outcome]]

WARNED = " (over the warning time)"  # the end of a stored reply: the one delay warning was due
REPLY_LIMIT = 500  # characters of a stored reply


@dataclass(slots=True)
class Conclusion:
    """remaining: who stays, with the last reply (empty: the entry is forgotten); due: epoch seconds of the
    next try.

    results: every outcome of this round, expiry included, for the log. The rest are the rounds' reports, each
    a list of (recipient, outcome): failed; delayed (warn_after passed); relayed (NOTIFY=SUCCESS, and nobody
    else answers it). ambiguous: hosts that may have the message. expired: how many recipients.
    """

    results: list[tuple[Recipient, Outcome]]
    remaining: list[Recipient] = field(default_factory=list)
    due: float = 0.0
    failed: list[tuple[Recipient, Outcome]] = field(default_factory=list)
    delayed: list[tuple[Recipient, Outcome]] = field(default_factory=list)
    relayed: list[tuple[Recipient, Outcome]] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    expired: int = 0

    @property
    def reports(self) -> bool:
        """True when a report may have to be written."""
        return bool(self.failed or self.delayed or self.relayed)


def conclude(
    entry: Entry,
    results: Results,
    now: float,
    retry: Retry,
    random: float,
    untouched: Sequence[Recipient] = (),
    unlived: float = 0.0,
) -> Conclusion:
    """What an attempt that counts ended as. now: epoch seconds; random: in [0, 1), once for the whole group.

    untouched: recipients of the entry that this attempt had nothing to do with (they go another way since a
    reload): they stay as they are. unlived: seconds since the acceptance that never passed (age.py).
    """
    conclusion = Conclusion(list(results))
    deferred: list[tuple[Recipient, Deferred]] = []
    for recipient, outcome in results:
        match outcome:
            case Delivered():
                if not outcome.dsn_passed_on and recipient.options:
                    conclusion.relayed.append((recipient, outcome))
            case Failed():
                conclusion.failed.append((recipient, outcome))
            case Deferred():
                deferred.append((recipient, outcome))
    conclusion.ambiguous = sorted({outcome.host for _, outcome in deferred if outcome.ambiguous})
    if deferred and expired(now - entry.accepted - unlived, entry.attempts + 1, retry):
        _expire(conclusion, deferred)
    elif deferred:
        _defer(conclusion, entry, deferred, now, retry, random)
    conclusion.remaining += untouched
    return conclusion


def conclude_unreached(entry: Entry, last: Reply, host: str = "") -> Conclusion:
    """Expiry of an entry whose lane is suspended; the caller has asked `expired`. last, host: the lane's
    trouble."""
    deferred = [(recipient, Deferred(last, host)) for recipient in entry.recipients]
    conclusion = Conclusion(list(deferred))
    _expire(conclusion, deferred)
    return conclusion


def spoiled(recipients: Sequence[Recipient], ambiguous: bool = False) -> list[tuple[Recipient, Outcome]]:
    """What a bug of ours makes of an attempt: everybody deferred, nobody lost (promises 2 and 5)."""
    reply = Reply(0, "4.3.0", "internal error, will try again")
    return [(recipient, Deferred(reply, stage="data", ambiguous=ambiguous)) for recipient in recipients]


def _expire(conclusion: Conclusion, deferred: Sequence[tuple[Recipient, Deferred]]) -> None:
    """Deferred for ever is Failed: with the last reply, 4.4.7 if there is none. Design section 6, row
    "age"."""
    final: dict[int, Outcome] = {}
    for recipient, outcome in deferred:
        failed = replace(on_age(outcome.reply if outcome.reply.line else None), host=outcome.host)
        final[id(recipient)] = failed
        conclusion.failed.append((recipient, failed))
    conclusion.results = [
        (recipient, final.get(id(recipient), outcome)) for recipient, outcome in conclusion.results
    ]
    conclusion.expired = len(deferred)


def _defer(
    conclusion: Conclusion,
    entry: Entry,
    deferred: Sequence[tuple[Recipient, Deferred]],
    now: float,
    retry: Retry,
    random: float,
) -> None:
    """Who stays, with what was said, until when."""
    asked = [seconds for _, outcome in deferred if (seconds := _asked(outcome)) is not None]
    conclusion.due = next_due(entry.attempts + 1, now, retry, random, max(asked, default=None))
    if conclusion.ambiguous:
        conclusion.due = max(conclusion.due, now + AMBIGUOUS_WAIT)
    warn = retry.warn_after is not None and now - entry.accepted >= retry.warn_after
    for recipient, outcome in deferred:
        told = recipient.reply.endswith(WARNED)
        if warn and not told:
            conclusion.delayed.append((recipient, outcome))
        conclusion.remaining.append(replace(recipient, reply=_stored(outcome, told or warn)))


def _asked(outcome: Deferred) -> float | None:
    """The wait a peer asked for: greylisting answers RCPT, rarely the data."""
    return (
        hint(outcome.reply.text) if outcome.stage in ("rcpt", "data", "dot") and outcome.reply.code else None
    )


def _stored(outcome: Deferred, told: bool) -> str:
    """The reply as the queue keeps and shows it: one line, by whom, and whether the delay warning is behind
    it."""
    line = outcome.reply.line
    said = f"{outcome.host} said: {line}" if outcome.host else line
    return said[:REPLY_LIMIT] + (WARNED if told else "")
