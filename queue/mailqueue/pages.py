"""A SQLite database and its log as pages, read without SQLite: for what it calls damaged.

The format: https://www.sqlite.org/fileformat2.html, sections 1.3 (header), 1.8 (pointer map), 4 (log).
Nothing is written and nothing is trusted: what cannot be read is None.
"""

from __future__ import annotations

import os
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Self

from mailqueue.durable import open_regular
from mailqueue.schema import PAGE_SIZE

_MAGIC = b"SQLite format 3\0"
_LOG_MAGIC = (0x377F0682, 0x377F0683)  # words of the checksums are little-endian, big-endian
_LOG_HEADER = Struct(">8I")
_FRAME_HEADER = Struct(">6I")
_LOCK_PAGE_AT = 2**30  # SQLite keeps this byte for locks: its page holds nothing
_CACHED = 64  # pages


class Kind(IntEnum):
    """What the pointer map says of a page. UNKNOWN: it cannot be read there."""

    UNKNOWN = 0
    ROOT = 1
    FREE = 2
    OVERFLOW_FIRST = 3
    OVERFLOW = 4
    TREE = 5


class Pages:
    """A context manager. directory: with queue.db and queue.db-wal, either of which may be missing."""

    def __init__(self, directory: Path, only_log: bool = False) -> None:
        """OSError: there is no file that can be opened. only_log: the database is in use, leave it alone."""
        self._database = -1 if only_log else _open(directory / "queue.db")
        self._log = _open(directory / "queue.db-wal")
        if self._database < 0 and self._log < 0:
            raise FileNotFoundError(f"{directory} has no queue.db")
        self.size = self._page_size()
        self.log = Log(self._log, self.size)
        self.has_database = _size(self._database) > 0
        self.count = self.log.pages or -(-_size(self._database) // self.size)
        self.cut = max(0, self._stated_count() - self.count)  # pages that the file should have and has not
        self.read = lru_cache(_CACHED)(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for descriptor in (self._database, self._log):
            if descriptor >= 0:
                os.close(descriptor)

    def _page_size(self) -> int:
        """As the database says, or its log, or as we make them."""
        head = _read_at(self._database, 0, 18)
        if head.startswith(_MAGIC) and len(head) == 18:
            size = int.from_bytes(head[16:18], "big")
            if _is_page_size(size):
                return size
        log = _read_at(self._log, 8, 4)
        size = int.from_bytes(log, "big")
        return size if _is_page_size(size) else PAGE_SIZE

    def _stated_count(self) -> int:
        """How many pages the database says it has, if it can be believed (section 1.3.7)."""
        head = _read_at(self._database, 0, 100)
        if len(head) < 100 or not head.startswith(_MAGIC) or head[24:28] != head[92:96]:
            return 0
        return int.from_bytes(head[28:32], "big")

    def _read(self, page: int) -> bytes | None:
        """The newest version of a page (the first is 1)."""
        if not 0 < page <= self.count:
            return None
        offset = self.log.frames.get(page)
        if offset is not None:
            data = _read_at(self._log, offset, self.size)
        else:
            data = _read_at(self._database, (page - 1) * self.size, self.size)
        return data if len(data) == self.size else None

    def kind(self, page: int) -> Kind:
        if page == 1:
            return Kind.ROOT
        covered = self.size // 5 + 1
        pointers = (page - 2) // covered * covered + 2
        if pointers == _LOCK_PAGE_AT // self.size + 1:
            pointers += 1
        data = self.read(pointers)
        at = 5 * (page - pointers - 1)
        if data is None or at < 0 or data[at] > Kind.TREE:
            return Kind.UNKNOWN
        return Kind(data[at])


class Log:
    """The frames of a write-ahead log that are what was written, each judged by itself.

    SQLite ends at the first bad frame. A frame's checksum goes on from the one before it, which stands there,
    so what comes after a bad frame can be judged as well. frames: page -> offset of its newest committed
    version. pages: of the database after the last commit, 0 without one. broken: a bad frame (or header) has
    a good commit of a later transaction behind it, so it is not the torn end that a crash leaves. headless:
    its header is bad, so its frames may even be those of an earlier log.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.frames: dict[int, int] = {}
        self.pages = 0
        self.broken = self.headless = False
        self._descriptor = descriptor
        self._size = size
        if descriptor >= 0:
            self._scan()

    def _scan(self) -> None:
        head = _read_at(self._descriptor, 0, _LOG_HEADER.size)
        first = _read_at(self._descriptor, _LOG_HEADER.size, _FRAME_HEADER.size)
        if len(head) < _LOG_HEADER.size or len(first) < _FRAME_HEADER.size:
            return
        magic, _, _, _, *salts, check_1, check_2 = _LOG_HEADER.unpack(head)
        order = "big" if magic == _LOG_MAGIC[1] else "little"
        computed = checksum(head[:24], (0, 0), order)
        if magic not in _LOG_MAGIC or computed != (check_1, check_2):
            self.headless = True
            salts = list(_FRAME_HEADER.unpack(first)[2:4])
        self._walk(salts, (check_1, check_2), order)

    def _walk(self, salts: list[int], before: tuple[int, int], order: str) -> None:
        bad = over = self.headless  # over: the transaction with the bad frame is
        waiting: dict[int, int] = {}  # of a transaction whose commit has not been seen
        offset = _LOG_HEADER.size
        while len(frame := _read_at(self._descriptor, offset, _FRAME_HEADER.size + self._size)) > self._size:
            page, pages, *found, check_1, check_2 = _FRAME_HEADER.unpack_from(frame)
            after = check_1, check_2
            good = found == salts and len(frame) == _FRAME_HEADER.size + self._size
            if good and checksum(frame[24:], checksum(frame[:8], before, order), order) == after:
                waiting[page] = offset + _FRAME_HEADER.size
                if pages:
                    self.frames.update(waiting)
                    self.pages, self.broken = pages, self.broken or (bad and over)
                    waiting, over = {}, bad
            else:
                bad, over = True, over or (found == salts and pages > 0)
            before = after
            offset += _FRAME_HEADER.size + self._size


def checksum(data: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    """Of the log (section 4.2): over pairs of 32-bit words. len(data) is a multiple of 8."""
    one, two = before
    words = Struct(f"{'>' if order == 'big' else '<'}{len(data) // 4}I").unpack(data)
    for word, following in zip(words[::2], words[1::2], strict=True):
        one = (one + word + two) & 0xFFFFFFFF
        two = (two + following + one) & 0xFFFFFFFF
    return one, two


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 32768 and size & (size - 1) == 0


def _open(path: Path) -> int:
    """A descriptor; -1: there is no file that can be opened."""
    try:
        return open_regular(path)
    except OSError:
        return -1


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size if descriptor >= 0 else 0


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    """What can be read there, b"" where the disk cannot."""
    try:
        return os.pread(descriptor, length, offset) if descriptor >= 0 else b""
    except OSError:
        return b""
