"""A small real disk: an image with ext4 or xfs in it, mounted through a loop device, that can lose its power.

with Disk(tmp_path, "ext4") as disk:
    ... disk.place ...
    disk.cut()          # what no flush brought to the image is gone; every call fails
    disk.replug()       # mounted again, the journal replayed
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

from fakes.tools import missing, require_root, require_tool

MIB = 2**20
SIZES = {"ext4": 96 * MIB, "xfs": 300 * MIB}  # octets; mkfs.xfs makes none smaller. The image is sparse.
FILE_SYSTEMS = tuple(SIZES)
_OPTIONS = {"ext4": "rw", "xfs": "rw,nouuid"}  # two copies of one image may be mounted at a time
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN (linux/fs/ext4/ext4.h, xfs_fs.h)
_NO_LOG_FLUSH = 2  # what is in the journal's memory is lost too
_FIEMAP = 0xC020660B  # linux/fiemap.h
_EXTENTS = 512


def make_image(image: Path, kind: str, size: int = 0, options: tuple[str, ...] = ()) -> None:
    """A file with an empty file system of this kind. options: of its mkfs."""
    if kind == "ext4":
        command = [require_tool("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-m", "0", "-b", "4096"]
    else:
        command = [require_tool("mkfs.xfs", "xfsprogs"), "-q", "-f"]
    with image.open("wb") as file:
        file.truncate(size or SIZES[kind])
    run(*command, *options, str(image))
    run("fallocate", "--dig-holes", str(image))  # zeros that were written are as good unwritten


def run(*command: str) -> str:
    """What it says; AssertionError when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


class Disk:
    """image: the file; None: a new one in `directory`. place: where it is mounted. It belongs to root."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        *,
        image: Path | None = None,
        size: int = 0,
        options: tuple[str, ...] = (),
        mounting: str = "",
    ) -> None:
        """size: octets; options: of mkfs; mounting: more options of mount, each with a comma before it."""
        require_root("a disk of its own")
        if not Path("/dev/loop-control").exists():
            missing("loop devices are missing: load the kernel module loop")
        directory.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.place = directory / "disk"
        self.image = image or directory / "image"
        self.device = Path()  # its loop device while it is mounted
        self._mounting = mounting
        if image is None:
            make_image(self.image, kind, size, options)

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended cleans up, too
        self.place.mkdir(exist_ok=True)
        self.mount()
        return self

    def __exit__(self, *exc: object) -> None:
        self.unmount()

    def mount(self) -> None:
        self.device = Path(run("losetup", "--find", "--show", str(self.image)))
        try:
            options = _OPTIONS[self.kind] + self._mounting
            run("mount", "-t", self.kind, "-o", options, str(self.device), str(self.place))
        except BaseException:
            self._detach()
            raise

    def unmount(self) -> None:
        """As soon as nobody uses it; whoever still does after some seconds keeps a disk without a name."""
        deadline = time.monotonic() + 5
        while self.mounted():
            lazy = ("-l",) if time.monotonic() > deadline else ()
            subprocess.run(["umount", *lazy, str(self.place)], capture_output=True, check=False)
            if self.mounted():
                time.sleep(0.02)  # a poll of the condition above
        self._detach()

    def mounted(self) -> bool:
        """Not by os.path.ismount, which asks the file system, and that may be dead."""
        escaped = str(self.place).replace(" ", r"\040")
        return f" {escaped} " in Path("/proc/self/mounts").read_text()

    def _detach(self) -> None:
        """The kernel does it when the last user is gone, which may be a moment after the umount."""
        if self.device.name:
            subprocess.run(["losetup", "--detach", str(self.device)], capture_output=True, check=False)
            self.device = Path()

    def cut(self) -> None:
        """The power fails: nothing reaches the image any more, not even the journal."""
        descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def replug(self) -> None:
        """The machine starts again. Nobody may use the disk any more."""
        self.unmount()
        self.mount()

    def free(self) -> int:
        """Octets."""
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize


def extents(path: Path) -> list[tuple[int, int]]:
    """Where a file lies on its disk: (offset, length) in octets."""
    head = struct.pack("=QQIIII", 0, 2**64 - 1, 0, 0, _EXTENTS, 0)
    buffer = bytearray(head + bytes(56 * _EXTENTS))
    with path.open("rb") as file:
        fcntl.ioctl(file, _FIEMAP, buffer)
    count = struct.unpack_from("=I", buffer, 20)[0]
    found = (struct.unpack_from("=QQQ", buffer, 32 + 56 * number) for number in range(count))
    return [(physical, length) for _, physical, length in found]
