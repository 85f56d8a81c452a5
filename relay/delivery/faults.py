"""Faults of routes: next hops that refuse our login, our TLS policy or our token, and when to ask them again.

A fault belongs to one host of one route; the other hosts go on. A host with a fault is left in peace until
its own probe time (asked again and again, a mail server locks the account), until a file of its secrets
changes, or until an operator says so (reload, `relay queue retry`). When no host is left the lane is
suspended, for as long (health.py). No I/O but a stat of the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relay.delivery.failure import OpenFailed
from relay.delivery.health import Trouble
from relay.delivery.secret import stamps
from relay.observe.events import Events
from relay.reply import Reply
from relay.routing.table import LanePolicy
from relay.routing.target import Target

if TYPE_CHECKING:
    from relay.delivery.neighbours import Clock, Table

# s: the first and the longest. A login that was refused for good is not tried often: accounts get locked.
# "sent": no login was refused.
WAITS = {
    "auth": (60.0, 900.0), "token": (60.0, 900.0), "tls": (10.0, 300.0), "passing": (5.0, 300.0),
    "sent": (60.0, 300.0),
}  # fmt: skip
ELSE = 30.0  # s, when a probe ended for another reason, such as a dead host
LOOK = 2.0  # s between two looks at the files

Key = tuple[str, str, int]  # route, host, port


@dataclass(frozen=True, slots=True)
class Fault:
    """host: "name[address]:port", who said it. Times are monotonic seconds: since it stands, until when
    nobody asks. backoff: doublings of the wait, -1 when it begins anew. passing: it may be over soon. sent:
    met in a transaction, so only one can end it. tried: asked again since it was met last. files, stamps: of
    its secrets, as they were."""

    reason: str  # one of labels.FAULT_REASONS
    reply: Reply
    host: str
    since: float
    until: float
    backoff: int = 0
    passing: bool = False
    sent: bool = False
    tried: bool = False
    files: tuple[Path, ...] = field(default=(), repr=False)
    stamps: tuple[object, ...] = field(default=(), repr=False)

    @property
    def pace(self) -> str:
        """Its row of WAITS."""
        return "passing" if self.passing else "sent" if self.sent else self.reason

    @property
    def trouble(self) -> Trouble:
        return Trouble(self.reason, self.reply, self.host)


class Faults:
    """records: what stands now. All methods take the policy of a lane; only hosts of `via` have faults."""

    def __init__(self, events: Events, clock: Clock) -> None:
        self.records: dict[Key, Fault] = {}
        self._events, self._clock = events, clock
        self._looked = 0.0

    # --- who may be asked

    def blocks(self, policy: LanePolicy, target: Target) -> bool:
        """True: not now."""
        fault = self.records.get((policy.route, target.name, target.port))
        return fault is not None and fault.until > self._clock.monotonic()

    def closed_until(self, policy: LanePolicy) -> float | None:
        """When the first of the lane's hosts may be asked again; None: there is one that may be now."""
        now = self._clock.monotonic()
        found = [self.records.get((policy.route, hop.host, hop.port)) for hop in policy.via]
        untils = [fault.until for fault in found if fault is not None and fault.until > now]
        return min(untils) if untils and len(untils) == len(found) else None

    def of(self, route: str) -> list[Fault]:
        return [fault for key, fault in self.records.items() if key[0] == route]

    # --- what happened

    def trying(self, policy: LanePolicy, target: Target) -> None:
        """One who asks a host with a fault: others wait for what becomes of it."""
        key = policy.route, target.name, target.port
        fault = self.records.get(key)
        if fault is not None:
            until = self._clock.monotonic() + wait(fault.pace, fault.backoff)
            self.records[key] = replace(fault, until=until, tried=True)

    def failed(self, policy: LanePolicy, target: Target, failure: OpenFailed) -> None:
        """An opening ended so."""
        if failure.fault and policy.kind == "via":
            trouble = Trouble(failure.kind, failure.reply, failure.host)
            self._met(policy, target, trouble, failure)
            return
        key = policy.route, target.name, target.port
        fault = self.records.get(key)
        if fault is not None and fault.tried:
            self.records[key] = replace(fault, until=self._clock.monotonic() + ELSE)

    def refused(self, policy: LanePolicy, target: Target, trouble: Trouble) -> None:
        """A transaction ended with 530, 534, 535 or 538."""
        if policy.kind == "via":
            self._met(policy, target, trouble, None)

    def opened(self, policy: LanePolicy, target: Target) -> None:
        """There is a session with this host."""
        self._works((policy.route, target.name, target.port), False)

    def delivered(self, policy: LanePolicy, target: Target) -> None:
        """A transaction took place at this host, whatever it meant for the message."""
        self._works((policy.route, target.name, target.port), True)

    def _works(self, key: Key, sent: bool) -> None:
        """What was under way when the fault was met proves nothing."""
        fault = self.records.get(key)
        if fault is not None and fault.tried and (sent or not fault.sent):
            self._end(key)

    def _met(self, policy: LanePolicy, target: Target, trouble: Trouble, failure: OpenFailed | None) -> None:
        """failure: of the opening; None: it was met in a transaction."""
        now, key = self._clock.monotonic(), (policy.route, target.name, target.port)
        before = self.records.get(key)
        passing = failure is not None and failure.passing
        files, known = _secrets(policy, failure.stamps if failure is not None else None)
        since, backoff = now, 0
        again = before is not None and before.reason == trouble.reason
        if before is not None and again:  # a second connection that fails in the same round says nothing new
            since, backoff = before.since, before.backoff + before.tried
        fault = Fault(
            trouble.reason, trouble.reply, trouble.host, since, now, backoff,
            passing=passing, sent=failure is None, files=files, stamps=known,
        )  # fmt: skip
        until = now + wait(fault.pace, backoff)
        self.records[key] = replace(fault, until=until)
        if not again:
            if before is not None:
                self._events.route_fault_ended(policy.route, _host(key), before.reason)
            line, where = trouble.reply.line, to_mend(policy, trouble.reason)
            self._events.route_fault(policy.route, _host(key), trouble.reason, until - now, line, where)

    # --- what ends the wait

    def hasten(self, route: str = "", *, anew: bool = False) -> None:
        """Every fault (of a route) may be asked now. anew: the waits begin from the first."""
        now = self._clock.monotonic()
        for key, fault in self.records.items():
            if not route or key[0] == route:
                self.records[key] = replace(fault, until=now, backoff=-1 if anew else fault.backoff)

    def renew(self, table: Table) -> None:
        """Another configuration: hosts that are no longer named have no faults, the others may be asked."""
        for key in list(self.records):
            policy = table.policy(f"route:{key[0]}")
            if policy is None or key[1:] not in [(hop.host, hop.port) for hop in policy.via]:
                self._end(key)
        self.hasten(anew=True)

    def changed(self, now: float) -> set[str]:
        """The routes with a fault whose secrets have changed; they may be asked now. Looks every LOOK
        seconds."""
        if not self.records or now - self._looked < LOOK:
            return set()
        self._looked = now
        found = set()
        for key, fault in self.records.items():
            present = stamps(fault.files)
            if present != fault.stamps:
                self.records[key] = replace(fault, until=now, backoff=-1, stamps=present)
                found.add(key[0])
        return found

    def due(self, now: float) -> list[Key]:
        """The hosts that may be asked now and of which an opening proves something."""
        return [key for key, fault in self.records.items() if fault.until <= now and not fault.sent]

    def _end(self, key: Key) -> None:
        fault = self.records.pop(key)
        self._events.route_fault_ended(key[0], _host(key), fault.reason)


def _secrets(
    policy: LanePolicy, used: tuple[object, ...] | None
) -> tuple[tuple[Path, ...], tuple[object, ...]]:
    """The files that a lane's sessions depend on, and their stamps. used: those of the login's files when
    they were read, None: as they are now."""
    login = policy.login.files if policy.login is not None else ()
    files = (*login, policy.ca_file) if policy.ca_file is not None else login
    present = stamps(files)
    return files, present if used is None else (*used, *present[len(login) :])


def to_mend(policy: LanePolicy, reason: str) -> tuple[str, ...]:
    """The paths of the files that a fault may be mended in: of the login's secrets, or whom TLS trusts."""
    if reason == "tls":
        return (str(policy.ca_file),) if policy.ca_file is not None else ()
    return tuple(map(str, policy.login.files)) if policy.login is not None else ()


def wait(pace: str, backoff: int) -> float:
    """Seconds until a host is asked again, `backoff` doublings after the first wait. pace: of WAITS."""
    first, most = WAITS[pace]
    return min(first * 2.0 ** max(0, min(backoff, 16)), most)


def _host(key: Key) -> str:
    _, host, port = key
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
