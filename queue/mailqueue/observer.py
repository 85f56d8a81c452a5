"""What the queue tells the program around it: numbers and trouble. All calls come on the event loop."""

from __future__ import annotations

from collections.abc import Callable
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


class ShieldedObserver:
    """Passes everything on; what the other one raises is reported to the loop and disturbs nothing."""

    def __init__(self, other: Observer, report: Callable[[dict[str, object]], None]) -> None:
        self._other = other
        self._report = report

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        try:
            function(*args)
        except Exception as error:  # reported with its traceback
            self._report({"message": "the observer of the mail queue failed", "exception": error})

    def committed(self, seconds: float, entries: int) -> None:
        self._tell(self._other.committed, seconds, entries)

    def spool_error(self, operation: str, error: BaseException) -> None:
        self._tell(self._other.spool_error, operation, error)

    def quarantined(self, name: str, reason: str) -> None:
        self._tell(self._other.quarantined, name, reason)

    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        self._tell(self._other.recovered, possibly_delivered, held, orphans)


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
