"""An SMTP reply as a value, ours or a peer's.

`Reply` is what a server says after a command: three digits, an enhanced status code (RFC 3463) where there
is one, and text. Trouble that is not a reply (DNS, connect) is put into the same shape with `code` 0, so that
the log, the queue and a bounce show one thing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """code: 200-599, 0 where no server said anything; enhanced: "2.0.0" or ""; text: lines joined by LF."""

    code: int
    enhanced: str
    text: str

    @property
    def line(self) -> str:
        """The reply on one line, as logs and `relay queue show` print it."""
        parts = (str(self.code) if self.code else "", self.enhanced, self.text.replace("\n", " "))
        return " ".join(part for part in parts if part)
