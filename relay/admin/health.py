"""Is the process alive, is it ready: the two questions of an orchestrator, answered with reasons.

app.py sets the flags; the rest is read from the queue and the events at the moment of asking. Alive says "do
not kill me"; ready says "send me mail".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relay.observe.events import Events

LAG_LIMIT = 5.0  # s: an event loop this late is stuck, not busy


class SpaceState(Protocol):
    @property
    def full(self) -> bool: ...


class Spool(Protocol):
    """The part of the queue that is asked."""

    def space(self) -> SpaceState: ...


@dataclass
class Health:
    """failed: why the queue no longer commits ("" while it does), set once, the process is about to exit."""

    events: Events
    queue: Spool | None = None
    accepting: bool = False  # the listeners are open
    stopping: bool = False
    failed: str = ""

    def alive(self) -> list[str]:
        """Reasons why this process is of no more use; empty: alive."""
        reasons = [f"the queue failed: {self.failed}"] if self.failed else []
        if self.events.lag > LAG_LIMIT:
            reasons.append(f"the event loop is {self.events.lag:.1f} s late")
        return reasons

    def ready(self) -> list[str]:
        """Reasons why no mail should be sent here now; empty: ready."""
        reasons = self.alive()
        if self.stopping:
            reasons.append("stopping")
        elif not self.accepting:
            reasons.append("not accepting yet")
        if self.queue is not None and self.queue.space().full:
            reasons.append("the spool has too little free space")
        return reasons
