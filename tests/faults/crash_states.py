"""From a block log: what a disk may hold after a power cut, as images.

Every write before the last flush that precedes the cut is there. Of each later one any part may be: all of
it, nothing, or some of its sectors; so whatever order the disk wrote in, and what it tore, is among them.
"""

from __future__ import annotations

import bisect
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults.block_log import Event

SECTOR = 512  # octets that a disk writes whole or not at all
SUPERBLOCK = 1024  # its place in ext4: torn, the disk mounts only after a repair, whoever uses it
IDLE = 0.5  # s after the last 250, from which a cut counts as one in idle time
LOSSES = (0.0, 0.2, 0.5, 0.9, 1.0)  # of the writes since the last flush, drawn for each state
TORN = 0.2  # of those that are not lost


@dataclass(slots=True)
class Cut:
    """A moment in the log. end: number of events before it; idle: no 250 for a while; lost: writes since the
    last flush that did not reach the disk whole."""

    end: int
    idle: bool
    lost: int = 0


@dataclass(slots=True)
class Recording:
    """A disk's life. image: what it held before."""

    image: Path
    events: Sequence[Event]
    acks: list[int] = field(default_factory=list)  # places of the 250s among the events

    def __post_init__(self) -> None:
        self.acks = [number for number, event in enumerate(self.events) if self.is_ack(event)]

    @staticmethod
    def is_ack(event: Event) -> bool:
        return event.note == "sent" and b'"code": 250' in event.data

    def notes(self, name: str, end: int) -> bytes:
        """What had been noted under a name."""
        return b"".join(event.data for event in self.events[:end] if event.note == name)

    def choose(self, count: int, random: Random) -> list[Cut]:
        """So many moments in their order: a third of them in idle time, a third behind an unflushed write."""
        everywhere = range(self.acks[0] + 1, len(self.events) + 1)
        idle = [end for end in everywhere if self._is_idle(end)]
        assert idle, "the load never rested"
        written = [end for end in everywhere if self.events[end - 1].is_write]
        kinds = [idle, written, everywhere]
        ends = sorted(random.choice(kinds[number % 3]) for number in range(count))
        return [Cut(end, self._is_idle(end)) for end in ends]

    def choose_between(self, begin: float, end: float, count: int, random: Random) -> list[Cut]:
        """So many moments of this time (monotonic seconds) in their order."""
        times = [event.at for event in self.events]
        within = range(bisect.bisect_left(times, begin), bisect.bisect_right(times, end) + 1)
        return [Cut(place, False) for place in sorted(random.choices(within, k=count))]

    def _is_idle(self, end: int) -> bool:
        """No 250 for a while before the next event, which the cut may just have prevented."""
        last = self.acks[bisect.bisect_left(self.acks, end) - 1]
        following = self.events[end].at if end < len(self.events) else float("inf")
        return following - self.events[last].at >= IDLE

    def states(self, cuts: Sequence[Cut], image: Path, random: Random) -> Iterator[Cut]:
        """For each cut, `image` holds what the disk may have held then. The cuts in their order."""
        safe = image.with_suffix(".safe")
        copy(self.image, safe)
        flushes = [number for number, event in enumerate(self.events) if event.is_flush]
        done = 0
        for cut in cuts:
            place = bisect.bisect_left(flushes, cut.end)
            flushed = flushes[place - 1] if place else 0
            with safe.open("r+b", buffering=0) as file:
                for event in self.events[done:flushed]:
                    put(file.fileno(), event)
            done = max(done, flushed)
            copy(safe, image)
            loss = random.choice(LOSSES)
            with image.open("r+b", buffering=0) as file:
                for event in self.events[flushed : cut.end]:
                    cut.lost += lose(file.fileno(), event, loss, random)
            yield cut


def lose(descriptor: int, event: Event, loss: float, random: Random) -> bool:
    """Puts an unflushed event there, or some of it, or nothing. True: it is not whole."""
    if not event.is_write:
        return False
    if random.random() < loss:
        return True
    if random.random() >= TORN or event.offset <= SUPERBLOCK < event.offset + len(event.data):
        put(descriptor, event)
        return False
    for start in range(0, len(event.data), SECTOR):
        if random.random() < 0.5:
            os.pwrite(descriptor, event.data[start : start + SECTOR], event.offset + start)
    return True


def put(descriptor: int, event: Event) -> None:
    if event.is_write:
        os.pwrite(descriptor, event.data, event.offset)


def copy(source: Path, target: Path) -> None:
    """Holes stay holes."""
    target.unlink(missing_ok=True)
    program = shutil.which("cp")
    assert program
    subprocess.run([program, "--sparse=always", "--reflink=auto", str(source), str(target)], check=True)
