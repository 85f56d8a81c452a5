"""One message on its way from the wire to the queue's Content: the end, the limits, the header facts.

`feed` takes what was read and says how far the message goes. Only CRLF.CRLF ends it, or a ".CRLF" right at
the start (RFC 5321 4.1.1.4), wherever the reads were cut; each octet is looked at once. Content is written in
wire form (relay/wire.py), our trace header first. What is found wrong is kept in `refusal` and answered after
the end; until then the rest is read and dropped. No socket, no clock.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol

from relay.front import header, newline
from relay.front.replies import Refused, no_space, our_fault, spool_trouble, too_big

END = b"\r\n.\r\n"
EMPTY = b".\r\n"
_IN_END = frozenset(END)
HEAD_LIMIT = 64 * 1024  # octets of header section that are looked at
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_NO_FACTS = header.scan(b"")


class ContentWriter(Protocol):
    """What the front uses of mailqueue's Content."""

    message: int
    error: OSError | None
    on_drain: Callable[[], None] | None

    @property
    def is_behind(self) -> bool: ...
    @property
    def size(self) -> int: ...
    def write(self, data: bytes) -> None: ...
    def discard(self) -> None: ...


class Intake:
    """Its life: feed() until it returns a rest that is not None, then look at refusal, facts and content."""

    def __init__(
        self,
        content: ContentWriter,
        trace: Callable[[header.Facts], bytes],
        limit: int,
        hops: int,
        reject_bare: bool,
        bug: Callable[[Exception], None],
        revise: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """trace: facts -> the header lines that go on top; limit: octets; hops: Received lines allowed; bug:
        is told of an exception in our code, which refuses the message for now (451); revise: a whole header
        section of at most HEAD_LIMIT octets -> what takes its place."""
        self.content = content
        self.refusal: Refused | None = None
        self.facts = _NO_FACTS
        self.ascii = True
        self.normalized = False
        self.octets = 0  # received, as RFC 1870 counts: without stuffed dots
        self.carry = b""
        self._trace = trace
        self._limit = limit
        self._hops = hops
        self._reject_bare = reject_bare
        self._bug = bug
        self._revise = revise
        self._begun = False
        self._head: bytearray | None = bytearray()  # the header section until it is complete, then None
        self._line_start = True

    def feed(self, data: bytes) -> bytes | None:
        """Take data. None: the message goes on; else it has ended, and this is what came behind it."""
        if self.carry:
            data = self.carry + data
        if not self._begun:
            if len(data) < len(EMPTY) and EMPTY.startswith(data):
                self.carry = data
                return None
            self._begun = True
            if data.startswith(EMPTY):
                self._take(b"", True)
                return data[len(EMPTY) :]
        end = (
            data.find(END) if b"." in data else -1
        )  # base64 has no dots, and one octet is found 30 times faster
        if end >= 0:
            self._take(data[: end + 2], True)
            return data[end + len(END) :]
        cut = len(data)
        if not _IN_END.isdisjoint(data[-len(END) + 1 :]):  # it may begin there; else nothing need be copied
            cut = newline.safe_cut(data, max(0, cut - len(END) + 1))
        if cut:
            self._take(data[:cut], False)
        self.carry = data[cut:]
        return None

    def refuse(self, refusal: Refused) -> None:
        """The first reason counts; what was stored is given up at once."""
        if self.refusal is None:
            self.refusal = refusal
            self._head = None
            self.content.discard()

    def _take(self, block: bytes, last: bool) -> None:
        """A block of the message, cut where newline.safe_cut allows."""
        if self.refusal is None:
            try:
                self._check(block, last)
            except Exception as error:
                self._bug(error)
                self.refuse(our_fault())

    def _check(self, block: bytes, last: bool) -> None:
        self.octets += len(block)
        if b"." in block and (not last or self.octets > self._limit):  # small messages are spared the count
            self.octets -= block.count(b"\r\n..") + (self._line_start and block.startswith(b".."))
        if self.octets > self._limit:
            self.refuse(too_big(self._limit))
            return
        dot_behind_bare_end = self._line_start and block.startswith(EMPTY)
        if dot_behind_bare_end or newline.has_bare(block):
            block = self._mend(block)
        self._line_start = newline.ends_line(block)
        self.ascii = self.ascii and block.isascii()
        self._store(block, last)
        if self.content.error is not None:
            self.refuse(_spool_refusal(self.content.error))

    def _mend(self, block: bytes) -> bytes:
        if self._reject_bare:
            self.refuse(Refused(550, "5.6.11", "bare CR or LF in the message", "newline"))
            return b""
        self.normalized = True
        return newline.normalize(block, self._line_start)

    def _store(self, block: bytes, last: bool) -> None:
        if self.refusal is not None:
            return
        if self._head is None:
            self.content.write(block)
        elif not self._head and (last or len(block) >= HEAD_LIMIT):
            self._begin(block, header.section_end(block), last)
        else:
            start = max(0, len(self._head) - 3)
            self._head += block
            end = header.section_end(self._head, start)
            if end >= 0 or last or len(self._head) >= HEAD_LIMIT:
                self._begin(bytes(self._head), end, last)

    def _begin(self, block: bytes, end: int, last: bool) -> None:
        """The first write, as soon as the header section is known; until then it is kept."""
        self._head = None
        if self._revise is not None:
            block, end = self._revised(block, len(block) if last and end < 0 else end, self._revise)
        self.facts = header.scan(block[: end if end >= 0 else HEAD_LIMIT])
        if self.facts.hops > self._hops:
            self.refuse(Refused(554, "5.4.6", "too many Received lines: mail loop", "loop"))
            return
        self.content.write(self._trace(self.facts) + block)

    def _revised(self, block: bytes, end: int, revise: Callable[[bytes], bytes]) -> tuple[bytes, int]:
        """end: of the header section, -1 when it is not whole."""
        if not 0 <= end <= HEAD_LIMIT:
            return block, end
        section = revise(block[:end])
        return section + block[end:], len(section)


def _spool_refusal(error: OSError) -> Refused:
    return no_space() if error.errno in _NO_SPACE else spool_trouble()
