"""An SMTP reply as a value, ours or a peer's.

`Reply` is what a server says after a command: three digits, an enhanced status code (RFC 3463) where there
is one, and text. Trouble that is not a reply (DNS, connect) is put into the same shape with `code` 0, so that
the log, the queue and a bounce show one thing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SAID = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """code: 200-599, 0 where no server said anything; enhanced: "2.0.0" or ""; text: lines joined by LF."""

    code: int
    enhanced: str
    text: str

    @property
    def line(self) -> str:
        """The reply on one line, as logs and `relay queue show` print it."""
        parts = (self.head, self.text.replace("\n", " "))
        return " ".join(part for part in parts if part)

    @property
    def head(self) -> str:
        """What stands before the text. Where that begins with a code of the peer's own (5.7.8 after 535, when
        we take it for 4.7.8) ours is left out: what was said is shown, and one code only."""
        said = self.text[1:2] == "." and _SAID.match(self.text)
        parts = (str(self.code) if self.code else "", "" if said else self.enhanced)
        return " ".join(part for part in parts if part)
