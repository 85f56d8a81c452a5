"""The kernel's side of a file system in user space, as far as block_log.py needs it: one flat directory.

Speaks the FUSE protocol (linux/fuse.h, version 7.31) on /dev/fuse itself, in one thread, so that requests
have one order.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FSYNC = 1, 2, 3, 4, 14, 15, 16, 18, 20
_FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 25, 26, 27, 28, 29, 36, 42
_ROOT = 1  # its node; that of file n is n + 2
_LARGEST = 2**17  # octets of a write
_BIG_WRITES = 1 << 5
_DIRECT_IO = 1  # nothing is cached: each write comes here before it returns
_HEAD = struct.Struct("=IIQQIIIHH")
_WRITE_HEAD = struct.Struct("=QQIIQII")
_READ_HEAD = struct.Struct("=QQI")


class Files(Protocol):
    """Files by number. OSError is handed to whoever asked."""

    names: Sequence[str]

    def size(self, file: int) -> int: ...
    def read(self, file: int, offset: int, count: int) -> bytes: ...
    def write(self, file: int, offset: int, data: bytes) -> None: ...
    def sync(self, file: int) -> None: ...


def mount(place: Path) -> int:
    """The descriptor on which the kernel asks. OSError."""
    descriptor = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={descriptor},rootmode=40700,user_id=0,group_id=0,max_read={_LARGEST}"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"block_log", os.fsencode(place), b"fuse", 0, options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(place))
    return descriptor


def serve(descriptor: int, files: Files) -> None:
    """Answers until the place is unmounted."""
    answers = _Answers(files)
    while True:
        try:
            request = os.read(descriptor, _LARGEST + 4096)
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # the request was taken back
                continue
            raise
        _, opcode, unique, node, *_ = _HEAD.unpack_from(request)
        if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            continue
        number, payload = 0, b""
        try:
            payload = answers.table.get(opcode, answers.unknown)(node, request[_HEAD.size :])
        except OSError as error:
            number = error.errno or errno.EIO
        with contextlib.suppress(FileNotFoundError):  # whoever asked was killed meanwhile
            os.write(descriptor, struct.pack("=IiQ", 16 + len(payload), -number, unique) + payload)


class _Answers:
    """One method a request: (node, what follows the header) -> payload."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.table: dict[int, Callable[[int, bytes], bytes]] = {
            _INIT: self.init, _LOOKUP: self.lookup, _GETATTR: self.attributes, _SETATTR: self.attributes,
            _OPEN: self.open, _OPENDIR: self.open, _READ: self.read, _WRITE: self.write, _FSYNC: self.sync,
            _FLUSH: self.nothing, _RELEASE: self.nothing, _RELEASEDIR: self.nothing, _READDIR: self.nothing,
        }  # fmt: skip

    def unknown(self, node: int, body: bytes) -> bytes:
        raise OSError(errno.ENOSYS, "not needed here")

    def nothing(self, node: int, body: bytes) -> bytes:
        return b""

    def init(self, node: int, body: bytes) -> bytes:
        return struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, _BIG_WRITES, 16, 12, _LARGEST, 1, 0, 0, 0)

    def lookup(self, node: int, body: bytes) -> bytes:
        name = body.rstrip(b"\0").decode()
        if name not in self.files.names:
            raise OSError(errno.ENOENT, "no such file")
        found = self.files.names.index(name) + 2
        return struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + self._attributes(found)

    def attributes(self, node: int, body: bytes) -> bytes:
        return struct.pack("=QII", 0, 0, 0) + self._attributes(node)

    def _attributes(self, node: int) -> bytes:
        mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
        size = 0 if node == _ROOT else self.files.size(node - 2)
        return struct.pack("=QQQ36xIIIIIII", node, size, size // 512, mode, 1, 0, 0, 0, 4096, 0)

    def open(self, node: int, body: bytes) -> bytes:
        return struct.pack("=QIi", node, _DIRECT_IO, 0)

    def read(self, node: int, body: bytes) -> bytes:
        _, offset, count = _READ_HEAD.unpack_from(body)
        return self.files.read(node - 2, offset, count)

    def write(self, node: int, body: bytes) -> bytes:
        _, offset, count, *_ = _WRITE_HEAD.unpack_from(body)
        self.files.write(node - 2, offset, body[_WRITE_HEAD.size : _WRITE_HEAD.size + count])
        return struct.pack("=II", count, 0)

    def sync(self, node: int, body: bytes) -> bytes:
        self.files.sync(node - 2)
        return b""
