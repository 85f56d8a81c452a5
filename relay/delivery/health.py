"""The health of a lane as a table of states: who may deliver, who waits, when the next probe is.

Rule: everything that decides on suspension is here; nothing here does I/O or reads a clock. A lane is
suspended as a whole when no connection of it works and none could be opened. One probe at a time then finds
out when the trouble is over: after 5 s, then twice as long each time up to 5 minutes. The first success
starts a ramp from one connection. Trouble of a single message (4yz to MAIL, RCPT, DATA) never comes here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from relay.reply import Reply

PROBE_FIRST, PROBE_MOST = 5.0, 300.0  # seconds
_JITTER = 0.2  # a probe comes up to this share of its wait early, never late


class Health(Enum):
    """HEALTHY: as many connections as the window allows; SUSPENDED: none, nothing is taken; PROBING: one
    opening is under way, nothing is taken; RAMPING: it works again, the window grows from one."""

    HEALTHY = "healthy"
    SUSPENDED = "suspended"
    PROBING = "probing"
    RAMPING = "ramping"


class Event(Enum):
    """OPENED: a connection got through; SENT: a transaction took place on it; TROUBLE: opening failed
    everywhere and nothing else works, or a transaction met a fault of the route; DUE: the probe timer, a
    reload or an operator; GROWN: the window reached its limit; GONE: nothing was left to probe for."""

    OPENED = "opened"
    SENT = "sent"
    TROUBLE = "trouble"
    DUE = "due"
    GROWN = "grown"
    GONE = "gone"


TABLE: dict[tuple[Health, Event], Health] = {
    (Health.HEALTHY, Event.OPENED): Health.HEALTHY,
    (Health.HEALTHY, Event.TROUBLE): Health.SUSPENDED,
    (Health.HEALTHY, Event.GROWN): Health.HEALTHY,
    (Health.SUSPENDED, Event.DUE): Health.PROBING,
    (Health.SUSPENDED, Event.GONE): Health.HEALTHY,
    (Health.PROBING, Event.OPENED): Health.RAMPING,
    (Health.PROBING, Event.TROUBLE): Health.SUSPENDED,
    (Health.PROBING, Event.GONE): Health.HEALTHY,
    (Health.RAMPING, Event.OPENED): Health.RAMPING,
    (Health.RAMPING, Event.SENT): Health.RAMPING,
    (Health.RAMPING, Event.TROUBLE): Health.SUSPENDED,
    (Health.RAMPING, Event.GROWN): Health.HEALTHY,
}


class Impossible(Exception):
    """An event that the state does not allow: a bug in the caller."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a lane does not work. reason: one of SUSPEND_REASONS; reply: what was said; host: by whom, "" by
    nobody; not_before: monotonic seconds, no probe makes sense earlier."""

    reason: str
    reply: Reply
    host: str = ""
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """A lane's health with what goes with it. Times are monotonic seconds.

    trouble: the last one, None when healthy; since: when it began; until: when the next probe is due
    (SUSPENDED); probes: failed ones since it began (counted for expiry); backoff: how often the wait was
    doubled; proved: since the last probe a transaction took place (RAMPING).
    """

    health: Health = Health.HEALTHY
    trouble: Trouble | None = None
    since: float = 0.0
    until: float = 0.0
    probes: int = 0
    backoff: int = 0
    proved: bool = False

    @property
    def takes(self) -> bool:
        """True when messages may be taken for this lane."""
        return self.health is Health.HEALTHY or self.health is Health.RAMPING


HEALTHY = Condition()


def step(
    condition: Condition, event: Event, now: float, random: float = 0.0, trouble: Trouble | None = None
) -> Condition:
    """The condition after `event` at `now` (monotonic seconds); random: in [0, 1), spreads the probes.

    trouble: must be given with TROUBLE, and only then. Impossible for an event that the state does not allow.
    """
    health = TABLE.get((condition.health, event))
    if health is None or (trouble is not None) is not (event is Event.TROUBLE):
        raise Impossible(f"{event.value} while {condition.health.value}")
    if trouble is not None:
        return _suspended(condition, trouble, now, random)
    if health is Health.HEALTHY:
        return HEALTHY
    if event is Event.SENT and not condition.proved:
        # Falling again while ramping goes on from half the wait: quick after a hiccup, patient with what
        # flaps.
        return replace(condition, health=health, backoff=condition.backoff // 2, proved=True)
    return replace(condition, health=health)


def probe_wait(backoff: int, random: float) -> float:
    """Seconds until a probe, `backoff` doublings after the first wait."""
    return min(PROBE_FIRST * 2.0 ** min(backoff, 16), PROBE_MOST) * (1 - _JITTER * random)


def longest_wait(random: float) -> float:
    """Seconds until a probe, after many doublings."""
    return probe_wait(16, random)


def _suspended(condition: Condition, trouble: Trouble, now: float, random: float) -> Condition:
    """SUSPENDED from any state: the first trouble begins a count, the later ones go on with it. A host that
    lets us in and then refuses the first transaction (530 to MAIL) has failed the probe."""
    first = condition.health is Health.HEALTHY
    ramped = condition.health is Health.RAMPING and condition.proved
    probes = condition.probes + (not ramped)
    backoff = 0 if first else condition.backoff + 1
    return Condition(
        Health.SUSPENDED,
        trouble,
        now if first else condition.since,
        max(now + probe_wait(backoff, random), trouble.not_before),
        0 if first else probes,
        backoff,
    )
