"""A next hop that enforces what smarthosts do: so many connections at a time, so many messages in a window.

    with StrictHop(connections=3, windows={60.0: 600}) as hop:
        ...
        assert hop.violations == []

One connection too many is greeted with 421, a MAIL too many in any sliding window is answered 450; both are
written down. It counts a connection until it has seen its end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from fakes.sink import RecordingSink


class StrictHop(RecordingSink):
    """windows: seconds -> most MAIL commands in any such time. mails: when each came, monotonic seconds."""

    def __init__(self, connections: int, windows: Mapping[float, int]) -> None:
        super().__init__()
        self.connections = connections
        self.windows = windows
        self.mails: list[float] = []
        self.violations: list[str] = []

    def answer(self, key: str, default: str) -> str:
        if key == "CONNECT" and len(self.open_sessions) > self.connections:
            return self._refuse(f"421 4.3.2 too many connections ({len(self.open_sessions)})")
        if key == "MAIL":
            now = time.monotonic()
            self.mails.append(now)
            for seconds, most in self.windows.items():
                recent = sum(at > now - seconds for at in self.mails[-most - 1 :])
                if recent > most:
                    return self._refuse(f"450 4.7.1 {recent} messages in {seconds:g} s")
        return super().answer(key, default)

    def _refuse(self, text: str) -> str:
        self.violations.append(text)
        return text
