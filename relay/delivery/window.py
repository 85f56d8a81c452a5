"""How many connections a lane may have: grows with success, shrinks to what works, pure numbers.

After Postfix (facts: start at 5, one more per success while work waits; a failed connect while others work
means "enough", not "down"). After such a refusal the window stays for a while, then grows by 1/N per success.
"""

from __future__ import annotations

INITIAL = 5
_PAUSE_FIRST, _PAUSE_MOST = 10.0, 300.0  # seconds without growth after a refused connection


class Window:
    """size: connections allowed now (1 <= size <= limit); a fraction is progress to the next one."""

    __slots__ = ("held_until", "limit", "pause", "size", "slow")

    def __init__(self, limit: int, initial: int = INITIAL) -> None:
        self.limit = limit
        self.size = float(min(initial, limit))
        self.slow = False
        self.pause = 0.0
        self.held_until = 0.0

    def succeeded(self, now: float) -> None:
        """A transaction or an opening ended well at `now` (monotonic seconds)."""
        if self.size < self.limit and now >= self.held_until:
            self.size = min(self.size + (1 / self.size if self.slow else 1.0), float(self.limit))
            if self.full:
                self.slow, self.pause = False, 0.0

    def refused(self, working: int, now: float) -> None:
        """Opening one more failed at `now` while `working` others went on."""
        self.size = float(max(1, min(working, self.limit)))
        self.slow = True
        self.pause = min(max(self.pause * 2, _PAUSE_FIRST), _PAUSE_MOST)
        self.held_until = now + self.pause

    def allows(self, working: int, opening: int) -> bool:
        """True when one more may be opened: inside the window, one at a time until one works, then a few at
        once."""
        at_once = min(working, INITIAL) if working else 1
        return opening < at_once and working + opening < int(self.size)

    @property
    def full(self) -> bool:
        """True when it has grown to its limit."""
        return self.size >= self.limit
