"""A new message becomes durable."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from mailqueue.entry import Accepted, Entry, Message
from mailqueue.errors import QueueFailed
from mailqueue.rows import MessageRow, entry_check, message_check, pack_recipients
from mailqueue.schema import ENTRIES_BITS, NO_TEXT
from mailqueue.transaction import Transaction

if TYPE_CHECKING:
    from mailqueue.content import Content

MOST_LANES = 1000


class Accept:
    """A new message with its entries, prepared at once, so that what is wrong raises in the caller."""

    __slots__ = (
        "_content",
        "_done",
        "_entries",
        "_file",
        "_message",
        "_row",
        "_size",
        "id",
        "octets",
        "refusable",
    )

    def __init__(self, number: int, message: Message, size: int, done: Accepted | None) -> None:
        """ValueError: no lanes, too many, one without recipients or with U+FFFD in its name (that stands for
        damage), text that UTF-8 has no bytes for."""
        if not 1 <= len(message.lanes) <= MOST_LANES:
            raise ValueError(f"a message has 1 to {MOST_LANES} lanes, not {len(message.lanes)}")
        self.id = number
        self.refusable = done is not None
        self._done = done
        self._message = message
        self._size = size
        self._content: bytes | None = None
        self.octets = 0
        self._file: Content | None = None
        self._row: MessageRow | None = None
        self._entries = self._prepare(message, size)

    def store(self, crc: int, content: bytes | None) -> Accept:
        """The content is known: None when it is in the file of this id. To be called before it is written."""
        file = int(content is None)
        meta = self._message.meta
        check = message_check(self.id, meta, self._size, crc, file)
        self._row = (self.id, meta, self._size, crc, file, check, content)
        self._content = content
        self.octets = 0 if content is None else len(content)
        return self

    def store_small(self, content: bytes) -> Accept:
        return self.store(crc32(content), content)

    def guard(self, file: Content) -> None:
        """The content is in a file, which goes when the message is refused."""
        self._file = file

    def _prepare(self, message: Message, size: int) -> list[tuple[int, str, str, int]]:
        rows = []
        number = self.id << ENTRIES_BITS
        for lane, recipients in message.lanes.items():
            if not recipients:
                raise ValueError(f"lane {lane} has no recipients")
            if NO_TEXT in lane:
                raise ValueError(f"lane {lane} has a name that is none")
            packed = pack_recipients(recipients)
            rows.append((number, lane, packed, entry_check(number, lane, message.sender, size, packed)))
            number += 1
        return rows

    def write(self, tx: Transaction) -> None:
        if self._row is None:
            raise RuntimeError("a message is written before its content is known")
        tx.messages.append(self._row)
        size, sender, now = self._size, self._message.sender, tx.now
        for number, lane, packed, check in self._entries:
            if tx.admit(lane):
                state = 0
                tx.admitted.append(self._lease(tx, number, lane))
            else:
                state = 1
                tx.count(lane, state, size, now)
                tx.due[lane] = None
            tx.entries.append((number, lane, state, now, 0, 0, sender, size, packed, check))

    def _lease(self, tx: Transaction, number: int, lane: str) -> Entry:
        message, content = self._message, self._content
        if content is not None:
            if len(content) > tx.room:
                content = None
            else:
                tx.room -= len(content)
        return Entry(
            id=number,
            message=self.id,
            lane=lane,
            fresh=True,
            attempts=0,
            accepted=self.id / 1e6,
            due=tx.now / 1000,
            sender=message.sender,
            size=self._size,
            recipients=list(message.lanes[lane]),
            meta=message.meta,
            content=content,
            context=message.context,
        )

    def succeed(self) -> None:
        if self._done is not None:
            self._done(self.id, None)

    def fail(self, error: Exception) -> None:
        """After a failed sync the row may be on disk all the same: then the file has to stay."""
        if self._file is not None and not isinstance(error, QueueFailed):
            self._file.remove()
        if self._done is not None:
            self._done(0, error)
