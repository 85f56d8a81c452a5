"""A log of all that happens to a disk, in one order: block writes, flushes, and notes of what was promised.

`python -m faults.block_log PLACE IMAGE LOG NOTE...` (root) makes PLACE/disk, with the content of IMAGE; a
loop device on it is a disk. Beside it are files of the names NOTE: what is appended to them is written down
between the block writes, so the log says what was known to the world before a write reached the disk. Writes
to the places that the file PLACE/sick names last ("offset length ...") fail.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fakes.relay_process import ROOT
from fakes.tools import missing, require_root
from faults import fuse

_HEAD = struct.Struct("=BdQQ")  # kind, seconds of the monotonic clock, place, octets that follow
DISK, SICK = "disk", "sick"
_FIRST_NOTE = 2
PATIENCE = 10.0  # s


@dataclass(frozen=True, slots=True)
class Event:
    """note "": of the disk, a write at `offset` or, without data, a flush. Else `data` went into the note."""

    at: float
    offset: int
    data: bytes
    note: str = ""

    @property
    def is_write(self) -> bool:
        return not self.note and bool(self.data)

    @property
    def is_flush(self) -> bool:
        return not self.note and not self.data


class BlockLog:
    """One log. Its notes are the files place / name."""

    def __init__(self, directory: Path, image: Path, notes: tuple[str, ...]) -> None:
        require_root("a disk of its own")
        if not Path("/dev/fuse").exists():
            missing("/dev/fuse is missing: load the kernel module fuse")
        directory.mkdir(parents=True, exist_ok=True)
        self.place = directory / "log"
        self.path = directory / "blocks"
        self.disk = self.place / DISK
        self._image = image
        self._notes = notes

    def __enter__(self) -> Self:
        self.place.mkdir()
        command = [sys.executable, "-m", __name__, str(self.place), str(self._image), str(self.path)]
        path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}:{ROOT / 'tests'}"}
        self._process = subprocess.Popen([*command, *self._notes], env={**os.environ, **path})
        deadline = time.monotonic() + PATIENCE
        while not self.disk.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError("no block log")
            time.sleep(0.01)  # a poll of the condition above
        return self

    def __exit__(self, *exc: object) -> None:
        """The disk must have been unmounted."""
        subprocess.run(["umount", "-l", str(self.place)], capture_output=True, check=False)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)

    def sicken(self, places: list[tuple[int, int]]) -> None:
        """Writes to these places, (offset, length), fail from now on; [] heals."""
        words = " ".join(f"{offset} {length}" for offset, length in places)
        with (self.place / SICK).open("ab", buffering=0) as file:
            file.write(f"{words}\n".encode())

    def events(self) -> Iterator[Event]:
        names = (DISK, SICK, *self._notes)
        with self.path.open("rb") as file:
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                kind, at, offset, count = _HEAD.unpack(head)
                yield Event(at, offset, file.read(count), names[kind] if kind >= _FIRST_NOTE else "")


class _Files:
    """What fuse.serve asks for."""

    def __init__(self, image: Path, log: Path, notes: list[str]) -> None:
        self.names: Sequence[str] = (DISK, SICK, *notes)
        self._image = os.open(image, os.O_RDWR)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._sick: list[tuple[int, int]] = []
        self._noted = [bytearray() for _ in self.names]

    def size(self, file: int) -> int:
        return os.fstat(self._image).st_size if file == 0 else len(self._noted[file])

    def read(self, file: int, offset: int, count: int) -> bytes:
        if file == 0:
            return os.pread(self._image, count, offset)
        return bytes(self._noted[file][offset : offset + count])

    def write(self, file: int, offset: int, data: bytes) -> None:
        if file == 1:
            words = [int(word) for word in data.split()]
            self._sick = list(zip(words[::2], words[1::2], strict=True))
            return
        if file == 0:
            if any(offset < start + length and start < offset + len(data) for start, length in self._sick):
                raise OSError(errno.EIO, "sick")
            os.pwrite(self._image, data, offset)
        else:
            self._noted[file] += data
        self._write_down(file, offset, data)

    def sync(self, file: int) -> None:
        if file == 0:
            self._write_down(0, 0, b"")

    def _write_down(self, file: int, offset: int, data: bytes) -> None:
        os.writev(self._log, (_HEAD.pack(file, time.monotonic(), offset, len(data)), data))


def main(place: str, image: str, log: str, *notes: str) -> None:
    fuse.serve(fuse.mount(Path(place)), _Files(Path(image), Path(log), list(notes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
