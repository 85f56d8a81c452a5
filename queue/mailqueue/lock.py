"""Who owns the spool: one process, by an exclusive flock on the file `lock`, which ends with the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from mailqueue.errors import SpoolLocked

_PID_LENGTH = 32


class Lock:
    """Held from acquire() to release(); the kernel lets go of it when the process dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, spool: Path) -> Lock:
        """Raises SpoolLocked with the owner's process id, OSError when the file cannot be opened."""
        descriptor = os.open(spool / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, _PID_LENGTH, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise SpoolLocked(f"the spool {spool} is in use by process {owner}") from None
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """The file stays, empty: removing it would race with the next owner."""
        with contextlib.suppress(OSError):  # a dead disk keeps our process id; the lock is what counts
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
