"""Content on its way in: in memory while it is small, else streamed to a file of its own.

The file has its final name from the start; without a row in the database it is an orphan, removed by the next
start. Order of writes: all bytes, sync of the file, sync of the directory, then the row. Forgetting is the
reverse: the row goes durably, then the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

from mailqueue import durable
from mailqueue.errors import QueueClosed

if TYPE_CHECKING:
    from mailqueue.store import Store

Finished = Callable[[Exception | None], None]


class Content:
    """Made by Queue.content(). All methods run on the event loop; none of them waits.

    A failure to write is kept in `error`; what is written after it is dropped, and submit refuses the
    message.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: list[bytes] = []
        self._buffered = 0
        self._flying = 0  # octets of the block that a thread is writing
        self._descriptor = -1
        self._finished: Finished | None = None
        self._submitted = False
        self._discarded = False
        self.message = store.new_id()  # the id of the message to be, and the name of its file
        self._filed = False  # there is a file, or there will be one
        self.size = 0
        self.check = 0  # zlib.crc32 of it all
        self.error: OSError | None = None
        self.on_drain: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        """Add octets. Raises nothing."""
        self.size += len(data)
        if self.error is not None or self._discarded:
            return
        self.check = crc32(data, self.check)  # here, not in the thread: it is hot, and no thread is held up
        self._parts.append(data)
        self._buffered += len(data)
        if not self._flying and self.is_large:
            self._store.writing.add(self)
            if self._buffered >= self._store.block:
                self._send()

    @property
    def is_large(self) -> bool:
        """It gets a file."""
        return self._filed or self.size > self._store.inline_limit

    @property
    def pending(self) -> int:
        """Octets in memory that are not yet on their way to the disk or are being written there."""
        return self._buffered + self._flying

    @property
    def is_behind(self) -> bool:
        """The disk is: no more should be written before on_drain. Two blocks are pending, or more.

        Not while nothing is on its way there: nobody would call on_drain. So it can be, since the block of
        the others becomes smaller when there are more of them."""
        return self._flying > 0 and self._buffered + self._flying > 2 * self._store.block

    @property
    def data(self) -> bytes:
        """What is in memory: all of a small content."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def discard(self) -> None:
        """It is not wanted: what was stored goes. Idempotent; after a submit it does nothing."""
        if not self._submitted:
            self.remove()

    def remove(self) -> None:
        """The same, for the owner."""
        self._discarded = True
        self._store.writing.discard(self)
        self._drop_buffer()
        if not self._flying:
            self._clean_up()

    def finish(self, done: Finished) -> None:
        """Write the rest, sync file and directory, then done(None); or done(error), with nothing left."""
        self._finished = done
        if not self._flying:
            self._finish()

    def submit(self) -> None:
        """From here on the queue owns it. QueueClosed: it was discarded; ValueError: submitted twice."""
        if self._discarded:
            raise QueueClosed("this content was discarded")
        if self._submitted:
            raise ValueError("this content was submitted before")
        self._submitted = True

    def _send(self) -> None:
        block = self._take_block()
        self._store.run(lambda: self._write(block), self._sent)

    def _take_block(self) -> list[bytes]:
        """What is buffered, now flying. Joined only when it came in small pieces: that is a copy."""
        block = [self.data] if len(self._parts) > durable.MOST_PARTS else self._parts
        self._flying = self._buffered
        self._drop_buffer()
        self._filed = True
        return block

    def _drop_buffer(self) -> None:
        self._parts, self._buffered = [], 0

    def _write(self, block: list[bytes]) -> None:
        """In a thread."""
        if self._descriptor < 0:
            # A file of this name belongs to no message, ids being unique: it was being written at a crash and
            # then the clock was set back.
            self._descriptor = durable.create_anew(self._store.path(self.message))
        durable.write_parts(self._descriptor, block)

    def _sent(self, error: Exception | None) -> None:
        """On the loop: a block is written, or failed."""
        self._flying = 0
        if error is not None:
            self._fail(error)
        if self._discarded:
            self._clean_up()
        elif self._finished is not None:
            self._finish()
        elif self._buffered >= self._store.block:
            self._send()
        if self.on_drain is not None and not self.is_behind:
            self.on_drain()

    def _fail(self, error: Exception) -> None:
        self.error = error if isinstance(error, OSError) else OSError(str(error))
        self._drop_buffer()

    def _finish(self) -> None:
        if self.error is not None:
            self._end(self.error)
            return
        block = self._take_block()
        self._store.writing.discard(self)

        def work() -> None:
            self._write(block)
            descriptor, self._descriptor = self._descriptor, -1
            try:
                durable.sync_file(descriptor)
            finally:
                os.close(descriptor)

        self._store.run(work, self._synced)

    def _synced(self, error: Exception | None) -> None:
        self._flying = 0
        if error is not None:
            self._fail(error)
            self._end(error)
        else:
            self._store.sync_directory(self._end)

    def _end(self, error: Exception | None) -> None:
        if error is not None:
            self.remove()
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(error)

    def _clean_up(self) -> None:
        """Close and remove the file, if there is one."""
        if not self._filed:
            return
        self._filed = False
        descriptor, self._descriptor = self._descriptor, -1
        self._store.remove([self.message], descriptor)
