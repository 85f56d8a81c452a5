"""Rates: so many messages in so many seconds, evenly spaced. Pure: state and now in, seconds to wait out.

The generic cell rate algorithm (GCRA, ITU-T I.371) with a burst of one: a message goes at once after a pause,
the next one an interval later. The interval is a little longer than the rate says, so that a server that
counts the same rate in a sliding window never sees one too many, although some messages take a little longer
on their way there than others.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.units import format_rate

MARGIN = 0.01  # what we stay below the rate
_CATCH_UP = 0.02  # seconds, the most that slack is


@dataclass(frozen=True, slots=True)
class Rate:
    """count messages in period seconds."""

    count: int
    period: float

    def __str__(self) -> str:
        return format_rate(self.count, self.period)

    @property
    def interval(self) -> float:
        """Seconds from one message to the next."""
        return self.period * (1 + MARGIN) / self.count

    @property
    def slack(self) -> float:
        """Seconds that a message may be behind its time (timers are) without putting off the next ones: a
        quarter of the margin of one second, or of one interval. A server may look at less than the period."""
        return min(_CATCH_UP, MARGIN * max(1.0, self.interval) / 4)


class Bucket:
    """When the next message of one rate may go. free_at: monotonic seconds."""

    __slots__ = ("free_at", "interval", "rate", "slack")

    def __init__(self, rate: Rate) -> None:
        self.free_at = float("-inf")
        self._set(rate)

    def wait(self, now: float, messages: int = 1) -> float:
        """Seconds until so many may go at once, 0.0: now. Several at once (one mail in batches of recipients)
        need the room of all of them before and after: a window may begin or end with them."""
        return max(0.0, self.free_at + (messages - 1) * self.interval - now)

    def charge(self, now: float, messages: int = 1) -> None:
        """So many go now (or as soon as `wait` said before)."""
        begin = max(self.free_at + (messages - 1) * self.interval, now - self.slack)
        self.free_at = begin + messages * self.interval

    def owe(self, messages: int) -> None:
        """So many more went than were charged: the next ones wait for them."""
        self.free_at += messages * self.interval

    def ahead(self, now: float, seconds: float) -> int:
        """How many may go within `seconds` from now."""
        left = seconds - self.wait(now)
        return int(left / self.interval) + 1 if left >= 0 else 0

    def renew(self, rate: Rate) -> None:
        """Another rate from now on, counted from the message that went last."""
        last = self.free_at - self.interval
        self._set(rate)
        self.free_at = last + self.interval

    def _set(self, rate: Rate) -> None:
        self.rate, self.interval, self.slack = rate, rate.interval, rate.slack
