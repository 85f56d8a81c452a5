"""What became of a recipient in one attempt: three frozen values, consumed with `match`.

`host` is the peer that said it, as "name[address]:port", or "" where nobody was reached. `stage` is where it
was said (one of STAGES; what it means there: delivery/verdict.py). `ambiguous`: the peer may have the message
although no reply to the final dot was read; it is tried again no sooner than ten minutes later.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.reply import Reply

STAGES = (
    "dns", "connect", "greeting", "ehlo", "starttls", "auth", "capability",
    "mail", "rcpt", "data", "dot", "age",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop (or the capture directory) has taken responsibility."""

    reply: Reply
    host: str = ""
    dsn_passed_on: bool = True  # False: the peer lacks DSN; we answer NOTIFY=SUCCESS (RFC 3461 5.2.2)


@dataclass(frozen=True, slots=True)
class Deferred:
    """Temporary: the recipient stays in the queue."""

    reply: Reply
    host: str = ""
    stage: str = "connect"
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Permanent: the recipient is bounced at the end of this round."""

    reply: Reply
    host: str = ""
    stage: str = "rcpt"


Outcome = Delivered | Deferred | Failed
