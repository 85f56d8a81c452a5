"""Who is told what: which recipients want which report (RFC 3461 NOTIFY), and which address gets it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mailqueue.entry import Recipient
from relay.bounce import options
from relay.envelope import Envelope
from relay.outcome import Deferred, Delivered, Failed, Outcome

Kind = Literal["failed", "delayed", "delivered", "relayed"]
Result = tuple[Recipient, Outcome]

RETURN_CAP = 100 * 1024  # octets of content that a report returns at most
HEADERS_CAP = 64 * 1024  # octets of headers that a report returns at most
_WORD = {"failed": "FAILURE", "delayed": "DELAY", "delivered": "SUCCESS", "relayed": "SUCCESS"}


@dataclass(frozen=True, slots=True)
class Plan:
    """One report to be made. to "": nobody can be told (null sender, no postmaster): dropped, and counted."""

    kind: Kind
    to: str
    results: tuple[Result, ...]


def wants(recipient_options: str, kind: Kind) -> bool:
    """Is a report wanted for this recipient? Without NOTIFY: of failures and delays (RFC 3461 4.1)."""
    notify = options.parse(recipient_options).notify
    return _WORD[kind] in (notify or ("FAILURE", "DELAY"))


def report_address(
    sender: str, postmaster: str, kind: Kind = "failed", recipients: Sequence[str] = ()
) -> str | None:
    """Who gets a report on mail from `sender`, None: nobody.

    Mail with the null sender is never answered (RFC 5321 section 4.5.5); its failure is told to the
    postmaster, unless it was on its way to the postmaster (`recipients`: who failed): that would be a circle.
    """
    if sender:
        return sender
    if kind != "failed" or not postmaster or any(_same(postmaster, address) for address in recipients):
        return None
    return postmaster


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def plan(
    envelope: Envelope, results: Sequence[Result], postmaster: str = "", *, final: bool = False
) -> list[Plan]:
    """The reports at the end of one round, at most one of each kind.

    Deferred results are left out: `plan_delayed` is asked for them when their time has come. final: there is
    no next hop (a capture directory), so success is "delivered"; else a hop with DSN has taken the duty to
    report over, and one without makes it "relayed" (RFC 3461 section 5.2.2).
    """
    groups: dict[Kind, list[Result]] = {}
    for recipient, outcome in results:
        kind = _kind(outcome, final)
        if kind and (envelope.sender or kind == "failed") and wants(recipient.options, kind):
            groups.setdefault(kind, []).append((recipient, outcome))
    return [_plan(kind, envelope, group, postmaster) for kind, group in groups.items()]


def plan_delayed(envelope: Envelope, results: Sequence[Result]) -> Plan | None:
    """The delay warning for what waits, None when nobody wants it or nobody can get it."""
    group = [
        (recipient, outcome)
        for recipient, outcome in results
        if isinstance(outcome, Deferred) and wants(recipient.options, "delayed")
    ]
    return _plan("delayed", envelope, group, "") if group and envelope.sender else None


def _kind(outcome: Outcome, final: bool) -> Kind | None:
    if isinstance(outcome, Failed):
        return "failed"
    if isinstance(outcome, Delivered) and final:
        return "delivered"
    if isinstance(outcome, Delivered) and not outcome.dsn_passed_on:
        return "relayed"
    return None


def _plan(kind: Kind, envelope: Envelope, group: Sequence[Result], postmaster: str) -> Plan:
    failed = [recipient.address for recipient, _ in group]
    return Plan(kind, report_address(envelope.sender, postmaster, kind, failed) or "", tuple(group))


def report_envelope(kind: Kind, to: str, report: bytes, message_id: str) -> Envelope:
    """The envelope of a report: null sender, and only the extensions its bytes really need."""
    return Envelope(
        sender="",
        eightbit=not report.isascii(),
        smtputf8=not to.isascii(),
        message_id=message_id,
        dsn=kind,
    )
