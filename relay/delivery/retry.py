"""When a message is tried again, and when it has been tried enough: pure functions of time and numbers.

The schedule counts completed attempts, not age: the first waits are given one by one (greylisting wants a
minute), later ones grow by a factor up to a cap. A recipient expires only when it is old AND was really
tried: a clock that jumps, or a relay that was switched off for a week, bounces nobody (promise 11).
"""

from __future__ import annotations

import math
import re

from relay.config.model import Retry

AMBIGUOUS_WAIT = 600.0  # seconds: the peer may have the message, give it time to finish or to forget
HINT_LEAST, HINT_MOST = 30.0, 3600.0  # seconds: how far a "try again in ..." of a peer is believed
LONGEST_FAULT = 3600.0  # seconds: no wait for a next hop at fault is longer
CLOCKS_DIFFER = (
    60.0  # seconds: an acceptance further ahead than this bears the time of a clock that was wrong
)
_MOST_STEPS = 10_000  # bounds the search for the step where a slowly growing schedule reaches its cap

_HINT = re.compile(
    r"\b(?:in|after|for|wait|within)\s+(?:(?P<h>\d{1,2}):(?P<m>\d\d):(?P<s>\d\d)"
    r"|(?P<number>\d{1,6})\s*(?P<unit>s|sec|second|m|min|minute|h|hour)s?)\b",
    re.IGNORECASE | re.ASCII,
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def wait(attempts: int, retry: Retry) -> float:
    """Seconds between completed attempt number `attempts` (1 = the first) and the next, without jitter."""
    listed = retry.schedule
    if attempts <= len(listed):
        return min(listed[max(attempts, 1) - 1], retry.cap)
    last, growth = max(listed[-1], 1.0), attempts - len(listed)
    if last >= retry.cap or growth * math.log(retry.factor) >= math.log(retry.cap / last):
        return retry.cap
    return last * retry.factor**growth


def hint(text: str) -> float | None:
    """The wait a peer asks for in its reply ("try again in 5 minutes"), in seconds, within bounds; None: no
    hint."""
    found = _HINT.search(text)
    if found is None:
        return None
    if found["number"] is None:
        seconds = int(found["h"]) * 3600.0 + int(found["m"]) * 60 + int(found["s"])
    else:
        seconds = int(found["number"]) * _UNITS[found["unit"][0].lower()]
    return min(max(seconds, HINT_LEAST), HINT_MOST)


def next_due(attempts: int, now: float, retry: Retry, random: float, asked: float | None = None) -> float:
    """When to try again, in epoch seconds, after `attempts` completed attempts; random: in [0, 1).

    asked: what hint() found. It replaces the listed waits, never shortens the later ones: a peer that says
    "in one minute" for days is not visited every minute for days. A hint is a lower bound, so its jitter only
    adds.
    """
    seconds = wait(attempts, retry) * (1 + retry.jitter * (2 * random - 1))
    if asked is not None:
        later = asked * (1 + retry.jitter * random / 2)
        seconds = later if attempts <= len(retry.schedule) else max(later, seconds)
    return now + seconds


def attempts_provided(age: float, retry: Retry) -> int:
    """How many attempts the schedule makes in the first `age` seconds of a message, the one at 0 included."""
    attempts, passed = 1, 0.0
    while attempts < _MOST_STEPS:
        seconds = wait(attempts, retry)
        if passed + seconds > age or seconds <= 0:
            return attempts
        passed += seconds
        attempts += 1
        if attempts > len(retry.schedule) and wait(attempts, retry) == wait(attempts + 1, retry):
            return attempts + int((age - passed) // wait(attempts, retry))
    return attempts


def expired(age: float, tries: int, retry: Retry) -> bool:
    """True when `age` (seconds) is over give_up and `tries` is at least half of what the schedule provides
    till then.

    tries: completed attempts, or attempts and probes of its lane. Design section 6, last row; promise 11.
    Accepted after now (the clock was ahead then): its age is not known, so it takes all that the schedule
    provides.
    """
    if age < -CLOCKS_DIFFER:
        return tries >= attempts_provided(retry.give_up, retry)
    return age > retry.give_up and 2 * tries >= attempts_provided(retry.give_up, retry)


def longest_wait(retry: Retry) -> float:
    """No due time is stored that is further ahead than this, in seconds: what is came from a lying clock."""
    scheduled = max(retry.cap * (1 + retry.jitter), HINT_MOST * (1 + retry.jitter / 2))
    return max(scheduled, AMBIGUOUS_WAIT, retry.after_crash, LONGEST_FAULT) + CLOCKS_DIFFER
