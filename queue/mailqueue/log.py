"""SQLite's write-ahead log, seen as a file: synced and measured through a descriptor of our own.

Our own descriptor is safe on the -wal file, which carries no POSIX locks. The database and the -shm file
carry them, and closing any descriptor of a file drops the locks of the whole process: nobody but SQLite ever
opens those two.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailqueue import durable

_HEADER = 32  # octets; page size at 8, salts at 16 (https://www.sqlite.org/fileformat2.html#walformat)
_FRAME_HEADER = 24  # octets; salts at 8


class Log:
    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        self._salts = b""
        self._frames = 0

    def sync(self) -> None:
        """What `synchronous=FULL` does at COMMIT. Runs in a thread; raises OSError.

        The default VFS assumes POWERSAFE_OVERWRITE, so FULL would add no padding frames either: this is all
        of it.
        """
        durable.sync_log(self.descriptor)

    def size(self) -> int:
        """Octets of the log in use (the file itself stays at its high-water mark).

        Frames of the present log carry the salts of its header; those left over from before do not. Their
        number is searched from the last known one upwards, so this costs a few reads of 8 octets.
        """
        header = os.pread(self.descriptor, _HEADER, 0)
        if len(header) < _HEADER:
            return 0
        frame = int.from_bytes(header[8:12]) + _FRAME_HEADER
        if header[16:24] != self._salts:
            self._salts, self._frames = header[16:24], 0
        step = 1
        while self._is_current(self._frames + step - 1, frame):
            self._frames += step
            step *= 2
        while step > 1:
            step //= 2
            if self._is_current(self._frames + step - 1, frame):
                self._frames += step
        return self._frames * frame

    def _is_current(self, number: int, frame: int) -> bool:
        return os.pread(self.descriptor, 8, _HEADER + number * frame + 8) == self._salts

    def close(self) -> None:
        os.close(self.descriptor)
