"""Where log lines go: a file descriptor that may be slow, blocked, full or gone.

Nothing here blocks for long or raises: what cannot be written now waits in a bounded buffer and is tried
again; what does not fit is dropped and counted. A pipe or terminal is reopened so that it can be non-blocking
without changing it for the other processes that share it; where that is refused, and for sockets, each write
is small and preceded by a poll.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from collections import deque

BUFFER = 2**20  # octets that wait at most
CHUNK = 4096  # a write of this size does not block on a pipe or socket that poll calls writable (pipe(7))


class Sink:
    """One file descriptor; `dropped` counts the lines lost."""

    def __init__(self, descriptor: int) -> None:
        self._wait: deque[tuple[bytes, int]] = deque()  # (block, lines in it)
        self._size = 0
        self.dropped = 0
        self._own = _reopened(descriptor)
        self._fd = descriptor if self._own is None else self._own
        self._whole = self._own is not None or _is_regular(descriptor)

    def put(self, block: bytes, lines: int) -> None:
        """Writes as much as goes at once; the rest waits for the next put or flush."""
        if self._size + len(block) > BUFFER:
            self.dropped += lines
        else:
            self._wait.append((block, lines))
            self._size += len(block)
        self.push()

    @property
    def waiting(self) -> bool:
        return bool(self._wait)

    def push(self) -> bool:
        """Writes what waits, as far as possible without blocking. True when nothing waits any more."""
        while self._wait:
            block, lines = self._wait[0]
            try:
                done = self._write(block)
            except BlockingIOError:
                return False
            except OSError:  # closed, full disk: nobody is left to be told, so the lines are counted as lost
                done = len(block)
                self.dropped += lines
            if not done:
                return False
            self._size -= done
            if done == len(block):
                self._wait.popleft()
            else:
                self._wait[0] = (block[done:], lines)
        return True

    def drain(self, seconds: float) -> None:
        """At the end: gives a slow reader up to `seconds` of real time; what is left is dropped."""
        limit = time.monotonic() + seconds
        while not self.push() and (left := limit - time.monotonic()) > 0:
            with contextlib.suppress(OSError):  # a poll that fails is answered by the next write
                self._poll(left * 1000)
        self.dropped += sum(lines for _, lines in self._wait)
        self._wait.clear()
        self._size = 0

    def close(self) -> None:
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _write(self, block: bytes) -> int:
        if self._whole:
            return os.write(self._fd, block)
        return os.write(self._fd, block[:CHUNK]) if self._poll(0) else 0

    def _poll(self, milliseconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(milliseconds))


def _is_regular(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # a closed descriptor: the writes will say so
        return False


def _reopened(descriptor: int) -> int | None:
    """The same pipe or terminal opened again, non-blocking for us alone; None where that cannot be had."""
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
            return None
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:  # no /proc, or another user's terminal: small polled writes do as well
        return None
