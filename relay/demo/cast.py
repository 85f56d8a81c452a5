"""Who plays in the demonstration: the letters, the next hops they go to, and what must become of them.

Everything else in this package is derived from CAST. Domains end in .example (RFC 2606).
"""

from __future__ import annotations

from dataclasses import dataclass

SENDER = "shop@orders.example"


@dataclass(frozen=True)
class Letter:
    """One message of the story. tries and fate ("delivered" or "bounced") are what must come true."""

    recipient: str
    subject: str
    hop: str  # what its next hop does, for the audience: short, it is a column of 80
    refusals: tuple[str, ...] = ()  # what the next hop says to RCPT, one each, before it accepts
    stubborn: bool = False  # ... and it never accepts
    pause: float = 0.0  # s that the next hop takes over the message
    tries: int = 1
    fate: str = "delivered"
    by_mx: bool = False  # its next hop is found by MX; the others are configured routes

    @property
    def domain(self) -> str:
        return self.recipient.partition("@")[2]

    @property
    def route(self) -> str:
        return self.domain.partition(".")[0]

    @property
    def content(self) -> bytes:
        """The message, with the lines that relays stumble over: dots, 8-bit, a long one."""
        lines = (
            f"From: The shop <{SENDER}>", f"To: <{self.recipient}>", f"Subject: {self.subject}",
            "Date: Tue, 03 Mar 2026 08:15:00 +0000", f"Message-ID: <demo.{self.recipient}>",
            "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit", "",
            "What goes out is what came in: ä, ☃,", ".", ".. and a line of", "x" * 2000, "",
        )  # fmt: skip
        return "\r\n".join(lines).encode()


CAST = (
    Letter("ada@quick.example", "Your order", "MX; accepts at once", by_mx=True),
    Letter(
        "ben@busy.example",
        "Your invoice",
        "451 twice, then 250",
        refusals=("451 4.7.1 Greylisted", "451 4.3.2 Still busy"),
        tries=3,
    ),
    Letter(
        "cleo@strict.example",
        "Your parcel",
        "always 550",
        refusals=("550 5.1.1 No such user",),
        stubborn=True,
        fate="bounced",
    ),
    Letter("dan@slow.example", "Your receipt", "250 after 4 s", pause=4.0),
)
# The bounce for Cleo's letter: it goes home to the sender.
BOUNCE = Letter(SENDER, "the bounce of the letter to cleo@strict.example", "the shop's mailbox")
