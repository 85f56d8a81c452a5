"""Large content from its file in blocks, its checksum computed on the way.

A block that is in the page cache is read on the spot (`read_cached`: 256 KiB cost 40 us, three times less
than by way of a thread); one that is not would stop the event loop for a disk access, so it is read in a
thread (`read`). The last block is handed out before the checksum is known to be right: the caller must ask
`fault` before it sends the final dot.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

BLOCK = 256 * 1024  # octets
# A link could lead out of the spool, and opening a FIFO waits for its writer.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)  # Linux


class ContentReader:
    """One pass over one file. size and check (zlib.crc32): what the queue says was accepted."""

    __slots__ = ("_check", "_descriptor", "_expected", "_offset", "_size")

    def __init__(self, path: Path, size: int, check: int) -> None:
        """OSError: the file cannot be opened."""
        self._descriptor = os.open(path, _OPEN)
        self._size, self._expected = size, check
        self._offset = 0
        self._check = 0

    def read_cached(self) -> bytearray | None:
        """The next block, empty at the end; None when it is not in memory: call read() in a thread."""
        if _NOWAIT is None:
            return None
        block = bytearray(BLOCK)
        try:
            count = os.preadv(self._descriptor, [block], self._offset, _NOWAIT)
        except (
            OSError
        ):  # EAGAIN: not in memory; EOPNOTSUPP: this file system cannot say; EIO: read() will raise it
            return None
        return self._take(block, count)

    def read(self) -> bytearray:
        """The next block, empty at the end; may wait for the disk. OSError."""
        block = bytearray(BLOCK)
        return self._take(block, os.preadv(self._descriptor, [block], self._offset))

    @property
    def fault(self) -> str:
        """After the end: "" when what was read is what was accepted, else what is wrong with it."""
        if self._offset != self._size:
            return f"content has {self._offset} octets, {self._size} were accepted"
        return "" if self._check == self._expected else "content does not match its checksum"

    def close(self) -> None:
        """Idempotent. Not while read() runs in a thread."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self, block: bytearray, count: int) -> bytearray:
        del block[count:]
        self._offset += count
        self._check = zlib.crc32(block, self._check)
        return block
