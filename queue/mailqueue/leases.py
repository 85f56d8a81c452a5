"""The entries that are out: how many, how large, in which lanes, and what operators want of them.

Entries in state ACTIVE are counted here and nowhere on disk, so that mail which comes and goes touches no
counter there.
"""

from __future__ import annotations

from enum import Enum

from mailqueue.entry import Entry, Tally
from mailqueue.errors import QueueError


class Mark(Enum):
    """What is to become of a leased entry if it comes back undelivered."""

    NONE = "as the holder says"
    HOLD = "held"
    DROP = "dropped"
    QUARANTINE = "quarantined"


class Leases:
    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._kept: dict[int, int] = {}  # entry -> octets of content handed out with it
        self._kept_bytes = 0
        self.marks: dict[int, Mark] = {}
        self.lanes: dict[str, Tally] = {}
        self.entries = 0
        self.bytes = 0

    @property
    def room(self) -> int:
        """Octets of content that may still be kept in memory."""
        return self._memory - self._kept_bytes

    def note(self, marks: dict[int, Mark]) -> None:
        """Marks are committed."""
        for entry, mark in marks.items():
            if mark is Mark.NONE:
                self.marks.pop(entry, None)
            else:
                self.marks[entry] = mark

    def begin(self, entry: Entry) -> None:
        """The lease is committed."""
        kept = 0 if entry.content is None else len(entry.content)
        self._kept[entry.id] = kept
        self._kept_bytes += kept
        self.entries += 1
        self.bytes += entry.size
        tally = self.lanes.get(entry.lane)
        if tally is None:
            tally = self.lanes[entry.lane] = Tally()
        tally.entries += 1
        tally.bytes += entry.size

    def give_back(self, entry: Entry) -> None:
        """The holder is done with it, the record of that is on its way. QueueError: it was not leased."""
        kept = self._kept.pop(entry.id, None)
        if kept is None:
            raise QueueError(f"entry {entry.id} of {entry.name} is not leased: settled twice?")
        self._kept_bytes -= kept

    def end(self, entry: Entry) -> None:
        """The record is committed."""
        self.marks.pop(entry.id, None)
        self.entries -= 1
        self.bytes -= entry.size
        tally = self.lanes[entry.lane]
        tally.entries -= 1
        tally.bytes -= entry.size
        if not tally.entries:
            del self.lanes[entry.lane]

    def __contains__(self, entry: int) -> bool:
        return entry in self._kept
