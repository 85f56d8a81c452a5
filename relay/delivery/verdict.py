"""Verdicts: what an answer means for the recipients, for the other hosts of this attempt, and for the lane.

The functions are pure, one for each kind of input: a reply, trouble instead of a reply, a capability the host
lacks, age. What no row names is temporary. What the DNS says is judged before, in routing/finding.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from relay.outcome import Deferred, Delivered, Failed, Outcome
from relay.reply import Reply

ROUTE_FAULTS = frozenset({530, 534, 535, 538})
TOO_MANY = frozenset({452, 552})  # to RCPT after at least one 250: the rest go in another transaction


Capability = Literal["8BITMIME", "SMTPUTF8", "SIZE"]


class Trouble(Enum):
    """What came instead of a reply."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    EOF = "eof"
    RESET = "reset"
    NONSENSE = "nonsense"  # a code outside 2-5 or in the wrong place, over-long, not a reply
    TLS = "tls"  # a handshake or a certificate


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. enhanced: for a peer that gave none of that class; its class is the outcome's."""

    enhanced: str
    elsewhere: bool = False  # may another host be tried in this attempt?
    lane: str = ""  # why to suspend when all hosts say so (SUSPEND_REASONS); "": the message's own trouble
    ambiguous: bool = False
    fault: bool = False  # the route's own: it stands for this host until something is changed
    passing: bool = False  # a fault that may be over in seconds


@dataclass(frozen=True, slots=True)
class Ruling:
    """outcome: of the recipients concerned; the rest: as in Row."""

    outcome: Outcome
    elsewhere: bool = False
    lane: str = ""
    fault: bool = False
    passing: bool = False


REPLIES: dict[tuple[str, int], Row] = {  # (stage, first digit)
    ("greeting", 4): Row("4.3.2", elsewhere=True, lane="greeting"),
    ("greeting", 5): Row("4.3.2", elsewhere=True, lane="greeting"),
    ("ehlo", 4): Row("4.3.2", elsewhere=True, lane="greeting"),
    ("ehlo", 5): Row("4.3.2", elsewhere=True, lane="greeting"),
    # under require and verify; opportunistic goes on in clear
    ("starttls", 4): Row("4.7.4", elsewhere=True, lane="tls", fault=True),
    ("starttls", 5): Row("4.7.4", elsewhere=True, lane="tls", fault=True),
    ("auth", 4): Row("4.7.0", elsewhere=True, lane="auth", fault=True, passing=True),
    ("auth", 5): Row("4.7.8", elsewhere=True, lane="auth", fault=True),
    ("mail", 4): Row("4.0.0", elsewhere=True),
    ("mail", 5): Row("5.0.0"),
    ("rcpt", 4): Row("4.0.0", elsewhere=True),
    ("rcpt", 5): Row("5.0.0"),
    ("data", 4): Row("4.0.0"),
    ("data", 5): Row("5.0.0"),
    ("dot", 4): Row("4.0.0"),
    ("dot", 5): Row("5.0.0"),
}
ROUTE_FAULT = Row("4.7.8", elsewhere=True, lane="auth", fault=True)
TOO_MANY_ROW = Row("4.5.3", elsewhere=True)

TROUBLE: dict[str, Row] = {  # stage
    "connect": Row("4.4.1", elsewhere=True, lane="connect"),
    "greeting": Row("4.4.1", elsewhere=True, lane="greeting"),
    "ehlo": Row("4.4.1", elsewhere=True, lane="greeting"),
    "starttls": Row("4.7.5", elsewhere=True, lane="tls", fault=True),
    "auth": Row("4.7.0", elsewhere=True, lane="auth", fault=True),
    "mail": Row("4.4.2", elsewhere=True),
    "rcpt": Row("4.4.2", elsewhere=True),
    "data": Row("4.4.2"),
    "dot": Row("4.4.2", ambiguous=True),
}

# as 4yz at that stage, and the connection is closed; after the dot no reply was read
NONSENSE: dict[str, Row] = {
    "greeting": Row("4.3.2", elsewhere=True, lane="greeting"),
    "ehlo": Row("4.3.2", elsewhere=True, lane="greeting"),
    "starttls": Row("4.7.4", elsewhere=True, lane="tls", fault=True),
    "auth": Row("4.7.0", elsewhere=True, lane="auth", fault=True),
    "mail": Row("4.5.0", elsewhere=True),
    "rcpt": Row("4.5.0", elsewhere=True),
    "data": Row("4.5.0"),
    "dot": Row("4.5.0", ambiguous=True),
}

LACKING: dict[str, Row] = {  # the final verdict only when no host offers it: see combine
    "8BITMIME": Row("5.6.3", elsewhere=True),
    "SMTPUTF8": Row("5.6.7", elsewhere=True),
    "SIZE": Row("5.3.4", elsewhere=True),
}
AGE = Row("4.4.7")
OURS = Row("4.3.0")
NO_STARTTLS = Row("4.7.4", elsewhere=True, lane="tls", fault=True)


Own = Literal["level", "mechanism", "secret", "token", "no token now", "ca_file"]
OWN: dict[Own, Row] = {  # what we find ourselves, before or instead of AUTH
    "level": Row("4.7.11", elsewhere=True, lane="tls", fault=True),  # below login_over
    "mechanism": Row("4.7.4", elsewhere=True, lane="auth", fault=True),
    "secret": Row("4.7.8", elsewhere=True, lane="auth", fault=True),  # a file that cannot be read
    "token": Row("4.7.8", elsewhere=True, lane="token", fault=True),  # the endpoint refuses us
    "no token now": Row("4.7.0", elsewhere=True, lane="token"),
    "ca_file": Row("4.7.5", elsewhere=True, lane="tls", fault=True),
}

_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)", re.ASCII)


def on_reply(stage: str, code: int, text: str, host: str = "") -> Ruling:
    """A refusal at a stage ("greeting" to "dot"). A code that is no refusal there is nonsense."""
    if code in ROUTE_FAULTS:
        return _rule(ROUTE_FAULT, Reply(code, ROUTE_FAULT.enhanced, text), stage, host)
    row = REPLIES.get((stage, code // 100))
    if row is None:
        return on_trouble(stage, Trouble.NONSENSE, f"unexpected reply: {code} {text}", host)
    return _rule(row, reply_with(code, text, row.enhanced), stage, host)


def on_too_many(code: int, text: str, host: str = "") -> Ruling:
    """452 or 552 to RCPT after at least one 250; stands until the next transaction speaks about them."""
    return _rule(TOO_MANY_ROW, reply_with(code, text, TOO_MANY_ROW.enhanced), "rcpt", host)


def on_trouble(stage: str, trouble: Trouble, text: str, host: str = "") -> Ruling:
    """No reply at a stage ("connect" to "dot"); text says what happened. After the dot it is ambiguous."""
    row = (NONSENSE if trouble is Trouble.NONSENSE else TROUBLE)[stage]
    return _rule(row, Reply(0, row.enhanced, text), stage, host)


def on_lacking(capability: Capability, text: str, host: str) -> Ruling:
    """The message needs what this host does not offer."""
    row = LACKING[capability]
    return _rule(row, Reply(0, row.enhanced, text), "capability", host)


def on_no_starttls(text: str, host: str) -> Ruling:
    """STARTTLS is required and not offered: the same as refused."""
    return _rule(NO_STARTTLS, Reply(0, NO_STARTTLS.enhanced, text), "starttls", host)


def on_own(what: Own, text: str, host: str) -> tuple[str, Ruling]:
    """(stage, ruling) for what keeps us from logging in, or from looking at a certificate."""
    row, stage = OWN[what], "starttls" if what == "ca_file" else "auth"
    return stage, _rule(row, Reply(0, row.enhanced, text), stage, host)


def on_our_trouble(stage: str, text: str) -> Ruling:
    """What we hold cannot be said or read: never the sender's fault (promise 2), no other host can help."""
    return _rule(OURS, Reply(0, OURS.enhanced, text), stage, "")


def on_age(last: Reply | None) -> Failed:
    """Over give_up (the caller knows promise 11): Failed with the last reply, if there was any."""
    return Failed(last or Reply(0, AGE.enhanced, "the time to deliver this message has run out"), "", "age")


def delivered(code: int, text: str, host: str, dsn: bool) -> Delivered:
    """2yz to the final dot; dsn: the peer offers DSN and was given NOTIFY and ORCPT."""
    return Delivered(reply_with(code, text, "2.0.0"), host, dsn)


def unasked(outcome: Outcome) -> Outcome:
    """What stands when a host lacks a capability and others were not asked (no room, DNS trouble, the relay
    stops): only "no host offers it" is final, so it is temporary. Other outcomes stay as they are."""
    if not (isinstance(outcome, Failed) and outcome.stage == "capability"):
        return outcome
    reply = Reply(0, "4" + outcome.reply.enhanced[1:], outcome.reply.text)
    return Deferred(reply, outcome.host, outcome.stage)


def combine(earlier: Outcome | None, later: Outcome) -> Outcome:
    """What stands of a recipient when a second host of the same attempt has spoken: the later word.

    One exception: a host that lacks a capability does not fail what an earlier host deferred, for that one
    may offer it. (The other order needs no rule: a later deferral replaces the failure.)
    """
    lacking = isinstance(later, Failed) and later.stage == "capability"
    return earlier if lacking and isinstance(earlier, Deferred) else later


def reply_with(code: int, text: str, default: str) -> Reply:
    """A peer's reply. Its enhanced code is taken out of the text when its class is that of `default`; else
    `default` is put beside it and the text stays whole."""
    found = _ENHANCED.match(text)
    if found is None or found[1] != default[0]:
        return Reply(code, default, text)
    enhanced = found[0]
    lines = text.split("\n") if "\n" in text else (text,)
    return Reply(code, enhanced, "\n".join(line.removeprefix(enhanced).strip() for line in lines))


def _rule(row: Row, reply: Reply, stage: str, host: str) -> Ruling:
    outcome: Outcome
    if row.enhanced[0] == "5":
        outcome = Failed(reply, host, stage)
    else:
        outcome = Deferred(reply, host, stage, row.ambiguous)
    return Ruling(outcome, row.elsewhere, row.lane, row.fault, row.passing)
