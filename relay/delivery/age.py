"""How old a message really is, when the wall clock was set forward while we ran.

A jump of the wall clock beside the monotonic one is not age: what was accepted before it has not waited for
it. Jumps are known only while the process lives; after a restart the count of attempts alone keeps what is
young from expiring (promise 11).
"""

from __future__ import annotations

from relay.delivery.neighbours import Clock

LEAST = 60.0  # s; smaller steps are the clock's own corrections
_MOST = 16  # jumps remembered


class Ages:
    """Kept by the scheduler, which calls look() at each sweep."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.time() - clock.monotonic()
        self._jumps: list[tuple[float, float]] = []  # (wall clock just after it, seconds), in order

    def look(self) -> None:
        """Compare the clocks. A jump back takes earlier jumps forward away again."""
        offset = self._clock.time() - self._clock.monotonic()
        jump = offset - self._offset
        if abs(jump) < LEAST:
            return
        self._offset = offset
        if jump > 0:
            self._jumps = [*self._jumps[1 - _MOST :], (self._clock.time(), jump)]
        else:
            self._undo(-jump)

    def _undo(self, back: float) -> None:
        while back > 0 and self._jumps:
            wall, seconds = self._jumps.pop()
            if seconds > back:
                self._jumps.append((wall - back, seconds - back))
            back -= seconds

    def unlived(self, accepted: float) -> float:
        """How many of the seconds since `accepted` (wall clock) never passed."""
        self.look()
        return sum(min(seconds, wall - accepted) for wall, seconds in self._jumps if accepted < wall)

    def accepted_before(self, age: float) -> float:
        """The wall clock time before which what is older than `age` was accepted."""
        self.look()
        then = self._clock.time() - age
        for wall, seconds in reversed(self._jumps):
            if then < wall:
                then -= seconds
        return then
