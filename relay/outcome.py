"""What became of a recipient in one attempt: three frozen values, consumed with `match`.

`host` is the peer that said it, as "name[address]:port", or "" where nobody was reached. `stage` is the phase of
section 6 of the design (one of STAGES). `ambiguous` says that the peer may have the message although no reply to
the final dot was read: such a recipient is tried again no sooner than ten minutes later.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.reply import Reply

STAGES = ("dns", "connect", "greeting", "ehlo", "starttls", "auth", "capability", "mail", "rcpt", "data", "dot", "age")


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop (or the capture directory) has taken responsibility."""

    reply: Reply
    host: str = ""
    dsn_passed_on: bool = True  # False: the peer lacks DSN, so NOTIFY=SUCCESS is answered by us (RFC 3461 5.2.2)


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
