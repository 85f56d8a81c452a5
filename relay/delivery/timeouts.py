"""How long each phase of a session may last."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase (RFC 5321 4.5.3.2)."""

    connect: float = 30.0
    greeting: float = 300.0
    ehlo: float = 300.0
    tls: float = 60.0
    auth: float = 120.0  # the whole dialogue
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0  # for the peer to take one block of content
    dot: float = 600.0
    envelope: float = 900.0  # from MAIL to the answer to DATA, all recipients of a batch
    quit: float = 5.0

    def phases(self) -> dict[str, float]:
        """State of a transaction -> seconds to the next sign of the peer."""
        mail, rcpt, data = self.mail, self.rcpt, self.data
        return {
            "reset": mail, "mail": mail, "rcpt": rcpt, "rcpt echo": rcpt, "data": data, "data echo": data,
            "content": self.block, "dot": self.dot, "lone dot": mail,
        }  # fmt: skip
