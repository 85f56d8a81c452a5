"""Content as a person or program reads it: wire form from memory or a file, un-stuffed, block by block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

BLOCK = 32 * 1024  # octets; in base64 less than the 64 KiB that line readers commonly take


class Unstuffer:
    r"""Removes the doubled dots at line starts, also where "\r\n" and "." fall into different blocks."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets before this block; a line starts at the beginning

    def feed(self, block: bytes) -> bytes:
        whole = self._tail + block
        self._tail = whole[-2:]
        return whole.replace(b"\r\n.", b"\r\n")[2:]


async def plain_blocks(content: bytes | Path) -> AsyncIterator[bytes]:
    """The content un-stuffed, in blocks; a file is read in a thread. OSError when it cannot be read."""
    unstuff = Unstuffer()
    if isinstance(content, bytes):
        for start in range(0, len(content), BLOCK):
            yield unstuff.feed(content[start : start + BLOCK])
        return
    file = await asyncio.to_thread(_opened, content)
    try:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield unstuff.feed(block)
    finally:
        file.close()


def _opened(path: Path) -> BinaryIO:
    return path.open("rb")
