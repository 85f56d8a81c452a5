"""The only module that syncs, renames, removes and creates files (a test reads the others and holds this).

SQLite's own files are written by SQLite; their log is synced here. Every function raises OSError and retries
nothing: after a failed sync the kernel may forget the dirty pages and the next sync says "ok" about bytes
that are not on the disk, so a sync that failed is never repeated on the same file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

MOST_PARTS = 128  # of one write; the system allows 1024
_COPY_BLOCK = 2**20


def sync_log(descriptor: int) -> None:
    """Make a log's bytes and length durable. Any descriptor of the file will do: the sync is the inode's."""
    os.fdatasync(descriptor)


def sync_file(descriptor: int) -> None:
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: files created, renamed or removed before this call."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it: a write may take less than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_parts(descriptor: int, parts: Sequence[bytes]) -> None:
    """Write all of them, at most MOST_PARTS, in one call where it takes all."""
    written = os.writev(descriptor, parts) if parts else 0
    for part in parts:
        if written < len(part):
            write_all(descriptor, memoryview(part)[written:])
        written = max(0, written - len(part))


def create(path: Path) -> int:
    """A new file for its owner alone, open for writing. FileExistsError when it exists."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def create_anew(path: Path) -> int:
    """The same, also where something lies in the way: that goes."""
    try:
        return create(path)
    except FileExistsError:
        remove(path)
        return create(path)


def open_regular(path: Path) -> int:
    """Open a file to read: not by a link, and nothing but a file (a FIFO would wait for its writer)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def put(path: Path, data: bytes) -> None:
    """A small file with this content, whole or not there at all, durable on return."""
    temporary = path.with_name(path.name + ".new")
    remove(temporary)
    descriptor = create(temporary)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    move(temporary, path)


def move(source: Path, target: Path) -> None:
    """Rename over whatever is there; durable on return when both are in one directory."""
    source.replace(target)
    sync_directory(target.parent)


def remove(path: Path) -> bool:
    """Remove a file; False when there was none. Durable after the next sync_directory."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def remove_durably(path: Path) -> bool:
    removed = remove(path)
    if removed:
        sync_directory(path.parent)
    return removed


def make_directory(path: Path) -> None:
    """A directory for its owner alone, durable on return. FileExistsError when it exists."""
    path.mkdir(0o700)
    sync_directory(path.parent)


def reserve(path: Path, size: int) -> None:
    """A file that occupies `size` octets of the disk; nothing stays behind when there is no room."""
    descriptor = create(path)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        remove(path)
        raise
    finally:
        os.close(descriptor)


def copy(source: Path, target: Path) -> None:
    """A new file with the same bytes, durable on return."""
    _copy(source, target)
    sync_directory(target.parent)


def rewrite(path: Path) -> None:
    """Bring what can be read of a file to the disk: as a copy that takes its place.

    After a failed sync the pages of a file can be clean in memory and missing on disk, and no sync of that
    file tells. The bytes written here are new and dirty, so the sync means what it says.
    """
    temporary = path.with_name(path.name + ".new")
    remove(temporary)
    try:
        _copy(path, temporary)
    except OSError:
        remove(temporary)
        raise
    move(temporary, path)


def rewrite_in_place(path: Path) -> None:
    """The same without room for a copy: every block is read and written back as it is."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        offset = 0
        while block := os.pread(descriptor, _COPY_BLOCK, offset):
            view = memoryview(block)
            while view:
                written = os.pwrite(descriptor, view, offset)
                view = view[written:]
                offset += written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    reading = open_regular(source)
    try:
        writing = create(target)
        try:
            while block := os.read(reading, _COPY_BLOCK):
                write_all(writing, block)
            os.fsync(writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
