"""The fixed values of every metric label, and how what is seen is reduced to them.

No label value ever comes from the network: a code, an enhanced status code or a verb that is not in these
tables becomes "other" (or its class). Route and listener names come from the configuration.
"""

from __future__ import annotations

from itertools import product

from relay.reply import Reply

REJECT_REASONS = (
    "policy", "syntax", "size", "space", "recipients", "loop", "sequence", "newline", "spool", "timeout",
    "bug", "closing", "address", "abuse", "auth", "sender",
)  # fmt: skip
SUSPEND_REASONS = ("connect", "greeting", "tls", "auth", "dns", "address", "capture", "limit", "token")
FAULT_REASONS = ("tls", "auth", "token")
OTHER = "other"

QUEUE_STATES = ("incoming", "active", "deferred", "hold", "quarantine")
REJECT_STAGES = ("connect", "helo", "mail", "rcpt", "data")
REFUSE_REASONS = ("sessions", "sessions_per_client", "closing", "files", "proxy")
VERBS = (
    "EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP", "STARTTLS",
    "AUTH", "BDAT", OTHER,
)  # fmt: skip
AUTH_MECHANISMS = ("PLAIN", "LOGIN", OTHER)
AUTH_RESULTS = ("ok", "cached", "failed", "blocked", "busy", "error", "invalid")
RESULTS = ("delivered", "deferred", "bounced", "expired")
STAGE_TIMES = ("dns", "connect", "tls", "auth", "envelope", "data", "final")
SPOOL_OPERATIONS = ("open", "write", "sync", "read", "checkpoint", "content", "cleanup", "space", OTHER)
DNS_KINDS = ("mx", "a", "aaaa")
DNS_RESULTS = ("ok", "nxdomain", "nodata", "servfail", "timeout", "refused", "error")
DSN_ACTIONS = ("failed", "delayed", "delivered", "relayed", "dropped")
OPERATOR_ACTIONS = ("hold", "release", "retry", "drop", "salvage")
TLS_VERSIONS = ("none", "TLSv1.2", "TLSv1.3", OTHER)
TLS_POLICIES = {"in": ("starttls", "implicit"), "out": ("none", "opportunistic", "require", "verify")}
TLS_RESULTS = ("ok", "failed")
BUG_PLACES = (
    "app", "front", "session", "queue", "routing", "resolver", "delivery", "scheduler", "lane", "connection",
    "transaction", "opening", "take", "sweep", "capture", "report", "bounce", "admin", "control",
    "loop", OTHER,
)  # fmt: skip

# Every refusal the front gives: (stages, reasons, code, enhanced codes).
_SESSION = "helo mail rcpt data"
_REFUSALS = (
    (_SESSION, "abuse", 421, "4.7.0"),
    (_SESSION, "abuse", 554, "5.5.1"),
    (_SESSION, "timeout", 421, "4.4.2"),
    (_SESSION, "closing", 421, "4.3.2"),
    (_SESSION, "bug spool", 451, "4.3.0"),
    (_SESSION, "bug", 421, "4.3.0"),
    (_SESSION, "syntax newline", 500, "5.5.2"),
    (_SESSION, "syntax", 501, "5.5.2 5.5.4"),
    (_SESSION, "syntax", 502, "5.5.1"),
    (_SESSION, "sequence", 503, "5.5.1"),
    ("mail rcpt", "policy", 550, "5.7.1"),
    ("mail rcpt", "policy auth", 530, "5.7.0"),
    ("mail", "auth", 421, "4.7.0"),
    ("mail", "sender", 553, "5.7.1"),
    ("mail rcpt", "syntax", 555, "5.5.4"),
    ("mail", "syntax address", 501, "5.1.7"),
    ("rcpt", "syntax address", 501, "5.1.3"),
    ("mail rcpt", "address", 553, "5.6.7"),
    ("mail data", "size", 552, "5.3.4"),
    ("mail rcpt data", "space", 452, "4.3.1"),
    ("rcpt", "recipients", 452, "4.5.3"),
    ("data", "sequence", 554, "5.5.1"),
    ("data", "loop", 554, "5.4.6"),
    ("data", "newline", 550, "5.6.11"),
)

KNOWN_REFUSALS = frozenset(
    (stage, str(code), enhanced, reason)
    for stages, reasons, code, enhanceds in _REFUSALS
    for stage, reason, enhanced in product(stages.split(), reasons.split(), enhanceds.split())
)
OTHER_REFUSALS = tuple(
    (stage, code, OTHER, reason)
    for stage, code, reason in product(REJECT_STAGES, ("4yz", "5yz"), REJECT_REASONS)
)

# RFC 3463 section 3: class.subject, the detail left out; "none" where nothing like it was said.
SUBJECTS = (*(f"{kind}.{subject}" for kind in "45" for subject in range(8)), "none")
_SUBJECT = frozenset(SUBJECTS)


def refusal(stage: str, reply: Reply, reason: str) -> tuple[str, str, str, str]:
    """(stage, code, enhanced, reason) as labels; an unknown refusal keeps only the class of its code."""
    exact = (stage, str(reply.code), reply.enhanced, reason)
    if exact in KNOWN_REFUSALS:
        return exact
    return (stage, "4yz" if reply.code < 500 else "5yz", OTHER, reason)


def subject(enhanced: str) -> str:
    """ "4.7.1" -> "4.7"; "none" for what is not a refusal's status code."""
    short = enhanced[:3]
    return short if short in _SUBJECT else "none"
