"""FakeClock: time that moves only when a test says so."""

from __future__ import annotations


class FakeClock:
    """time() is the wall clock (epoch seconds), monotonic() the steady one. advance() moves both, jump() the
    wall."""

    def __init__(self, wall: float = 1_700_000_000.0, steady: float = 1_000.0) -> None:
        self.wall = wall
        self.steady = steady

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.wall += seconds
        self.steady += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock; no time passes."""
        self.wall += seconds
