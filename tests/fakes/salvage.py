"""The parts of a salvage together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mailqueue import Queue
from mailqueue.damaged import Lost
from mailqueue.salvage import Salvaged


@dataclass
class Total:
    """The parts of a salvage together."""

    brought_back: int = 0
    known: int = 0
    possibly: int = 0
    held: int = 0
    unreadable: int = 0
    lost: list[Lost] = field(default_factory=list)

    def add(self, part: Salvaged) -> None:
        self.brought_back += part.brought_back
        self.known += part.known
        self.possibly += part.possibly_delivered
        self.held += part.held
        self.unreadable += part.unreadable
        self.lost += part.lost

    @property
    def reasons(self) -> dict[str, str]:
        return {lost.name: lost.reason for lost in self.lost}


async def salvaged(queue: Queue, directory: Path, dry_run: bool = False) -> Total:
    total = Total()
    async for part in queue.salvage(directory, dry_run):
        total.add(part)
    return total
