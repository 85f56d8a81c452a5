"""What the queue tells the program around it: numbers and trouble. All calls come on the event loop."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    def committed(self, seconds: float, entries: int) -> None:
        """A group commit is durable: seconds from the first statement to the end of the sync."""

    def spool_error(self, operation: str, error: BaseException) -> None:
        """Something on disk went wrong. operation: open, write, sync, checkpoint, content, cleanup, read."""

    def quarantined(self, name: str, reason: str) -> None:
        """The message with this queue id is damaged: kept, never sent."""

    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        """After a start; may be called twice (orphans are removed in the background), the numbers add up.

        possibly_delivered: entries that were in flight when the last process ended; held: those of them that
        are now HELD because it happened too often; orphans: content files without a message that were
        removed.
        """


class SilentObserver:
    """The observer of those who do not want to know."""

    def committed(self, seconds: float, entries: int) -> None:
        """Nothing."""

    def spool_error(self, operation: str, error: BaseException) -> None:
        """Nothing."""

    def quarantined(self, name: str, reason: str) -> None:
        """Nothing."""

    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        """Nothing."""
