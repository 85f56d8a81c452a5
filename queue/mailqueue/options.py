"""What can be set, and what `Queue.space` says."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
SMALLEST_INLINE_LIMIT = 4096  # octets; content up to this is always in the database, whatever the option says


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes in octets, durations in seconds."""

    inline_limit: int = 128 * 1024  # larger content gets a file of its own
    reserve: int = 2**30  # with less than this free, messages are refused
    ballast: int = 16 * MIB  # a file to give up when the disk is full, so that the queue can still drain
    checkpoint_bytes: int = 64 * MIB  # the write-ahead log is folded into the database when it is longer
    recovery_pause: float = 60.0  # what was in flight at a crash waits this long
    crash_limit: int = 3  # what was in flight at so many crashes is held
    longest_wait: float = (
        7 * 86400.0
    )  # a stored time further ahead came from a clock that lied: it counts as now
    aio: bool = False  # sync the log in a thread of the C library's where that can be had (aio.py)
    memory: int = 32 * MIB  # content of leased fresh mail that is kept in memory until it is settled

    def __post_init__(self) -> None:
        if self.inline_limit < SMALLEST_INLINE_LIMIT:
            raise ValueError(f"inline_limit must be at least {SMALLEST_INLINE_LIMIT}")
        if self.crash_limit < 1:
            raise ValueError("crash_limit must be at least 1")


@dataclass(frozen=True, slots=True)
class Space:
    """full: messages are refused now, because of the reserve or because a write met a full disk."""

    free_bytes: int
    free_inodes: int
    full: bool
