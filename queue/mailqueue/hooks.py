"""What the queue's user is asked and told. Plain attributes: set them before the first submit."""

from __future__ import annotations

from collections.abc import Callable

from mailqueue.entry import Entry


def _admit_nothing(lane: str) -> bool:
    return False


def _ignore(_: object) -> None:
    """Nobody listens."""


def _ignore_all() -> None:
    """Nobody listens."""


class Hooks:
    """All run on the event loop. What one raises goes to the loop's exception handler and no further."""

    def __init__(self) -> None:
        # Asked while a batch is written, once per (message, lane): lease this fresh mail at once?
        self.admit: Callable[[str], bool] = _admit_nothing
        # The write for which admit said yes was rolled back (disk full); if it is tried again, admit is asked
        # again.
        self.unadmit: Callable[[str], None] = _ignore
        # For each entry admitted, when its commit is durable.
        self.on_leased: Callable[[Entry], None] = _ignore
        # Something in a claimed lane became ready to take.
        self.on_due: Callable[[str], None] = _ignore
        # An unclaimed lane became due earlier than next_wake() said.
        self.on_wake: Callable[[], None] = _ignore_all
        # A write or a sync failed. Nothing is acknowledged any more: the process has to end.
        self.on_failed: Callable[[BaseException], None] = _ignore
