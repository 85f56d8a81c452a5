"""Room on the disk: what is free, the ballast, and whether an error means "full".

The ballast is a file that only occupies space. When a write meets a full disk it is given up, so that what is
queued can still be delivered and forgotten; messages are refused until there is room for the reserve and a
new ballast.
"""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from mailqueue import durable
from mailqueue.options import Options, Space

_LOOK_EVERY = 1.0  # s
_FEWEST_INODES = 100
_PROBE = bytes(65536)
_PLENTY = 256 * 2**20  # octets
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SYNC_CODES = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


class Room:
    def __init__(
        self, spool: Path, options: Options, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._spool = spool
        self._ballast = spool / "ballast"
        self._reserve = options.reserve
        self._ballast_size = options.ballast
        self._monotonic = monotonic
        self._drained = False  # a write met a full disk: refuse until the ballast is back
        self._seen = self._measure()
        self._seen_at = monotonic()

    def look(self) -> Space:
        """What is free; refreshed at most once a second."""
        now = self._monotonic()
        if now - self._seen_at >= _LOOK_EVERY:
            self._seen_at = now
            self._seen = self._look()
            if self._drained:
                self.restore_ballast()
        return self._seen

    def has_for(self, size: int) -> bool:
        """May a message of this size come in?"""
        space = self.look()
        return not space.full and space.free_bytes >= self._reserve + size

    @property
    def is_tight(self) -> bool:
        """The disk may soon be full: keep the log short, so that the last checkpoint still fits."""
        return self.look().full

    def has_plenty(self) -> bool:
        """More is free than any write of ours can want. SQLite says "full" also when damage leads it to a
        page that no database can have."""
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        return (
            limit == resource.RLIM_INFINITY
            and self._look().free_bytes > _PLENTY
            and not self._probe_is_full()
        )

    def give_up_ballast(self) -> bool:
        """A write met a full disk. True when there was a ballast, so that trying again makes sense now."""
        self._drained = True
        try:
            had = durable.remove(self._ballast)
        except OSError:  # a sick disk: what is tried next fails, and tells
            had = False
        self._seen = self._look()
        return had

    def restore_ballast(self) -> None:
        """Make the ballast if it is missing; as long as it cannot be made, messages are refused."""
        try:
            self._drained = not self._ballast.exists() and not self._make_ballast()
        except OSError:
            self._drained = True
        self._seen = self._look()

    def _make_ballast(self) -> bool:
        if self._ballast_size == 0:
            return self._look().free_bytes > 0
        # Not as soon as a ballast just given up would fit again: what it made room for must happen first.
        if self._look().free_bytes < self._ballast_size + max(self._reserve, self._ballast_size):
            return False
        durable.reserve(self._ballast, self._ballast_size)
        return True

    def _look(self) -> Space:
        """A disk that does not say what is free is sick, not full: the write that follows tells."""
        try:
            return self._measure()
        except OSError:
            return self._seen

    def _measure(self) -> Space:
        found = os.statvfs(self._spool)
        free = found.f_bavail * found.f_frsize
        inodes = found.f_favail if found.f_files else _FEWEST_INODES  # some file systems do not count them
        return Space(free, inodes, self._drained or free < self._reserve or inodes < _FEWEST_INODES)

    def is_full_error(self, error: BaseException) -> bool:
        """Does this error of a write mean "no space"? SQLite hides the errno of some: then a small write
        tells.
        """
        if isinstance(error, OSError):
            return error.errno in FULL_ERRNOS
        code = getattr(error, "sqlite_errorcode", 0)
        if code & 0xFF == sqlite3.SQLITE_FULL:
            return True
        if code & 0xFF != sqlite3.SQLITE_IOERR or code in _SYNC_CODES:
            return False
        return self._probe_is_full()

    def _probe_is_full(self) -> bool:
        path = self._spool / "probe"
        try:
            durable.remove(path)
            descriptor = durable.create(path)
            try:
                durable.write_all(descriptor, _PROBE)
            finally:
                os.close(descriptor)
                durable.remove(path)
        except OSError as error:
            return error.errno in FULL_ERRNOS
        return False
