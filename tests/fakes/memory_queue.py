"""MemoryQueue: what the front uses of mailqueue's Queue, in memory, with switches for slowness and
trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from mailqueue.entry import Accepted, Message


@dataclass
class MemorySpace:
    free_bytes: int = 2**40
    free_inodes: int = 2**20
    full: bool = False


PENDING_LIMIT = 512 * 1024  # octets: with more pending the disk is behind


class MemoryContent:
    """Keeps what is written. `drained` octets count as on disk: with queue.slow nothing is, until drain()."""

    def __init__(self, queue: MemoryQueue, message: int) -> None:
        self.queue = queue
        self.message = message
        self.pieces: list[bytes] = []
        self.size = 0
        self.drained = 0
        self.error: OSError | None = None
        self.on_drain: Callable[[], None] | None = None
        self.discarded = False

    def write(self, data: bytes) -> None:
        if self.queue.bug is not None:
            raise self.queue.bug
        self.pieces.append(data)
        self.size += len(data)
        if not self.queue.slow:
            self.drained = self.size
        if self.queue.breaks_at is not None and self.size >= self.queue.breaks_at[0]:
            self.error = self.queue.breaks_at[1]

    @property
    def pending(self) -> int:
        return 0 if self.discarded else self.size - self.drained

    @property
    def is_behind(self) -> bool:
        return self.pending > PENDING_LIMIT

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def drain(self) -> None:
        """The disk caught up."""
        self.drained = self.size
        if self.on_drain is not None:
            self.on_drain()

    def discard(self) -> None:
        self.discarded = True
        self.pieces.clear()


@dataclass
class Accepting:
    """A submit that waits for its commit."""

    message: Message
    done: Accepted
    number: int

    @property
    def content(self) -> MemoryContent:
        assert isinstance(self.message.content, MemoryContent)
        return self.message.content


class MemoryQueue:
    """held True: submits wait in `waiting` until commit(); else `done` runs at once, inside submit."""

    def __init__(self) -> None:
        self.held = False
        self.slow = False
        self.refusal: Exception | None = None  # given to done
        self.raises: Exception | None = None  # raised by submit
        self.closed: Exception | None = None  # raised by content
        self.bug: Exception | None = None  # raised by Content.write
        self.breaks_at: tuple[int, OSError] | None = None  # octets, and the error Content then has
        self.room = MemorySpace()
        self.on_submit: Callable[[], None] | None = None
        self.contents: list[MemoryContent] = []
        self.waiting: list[Accepting] = []
        self.accepted: list[Accepting] = []
        self._numbers = count(1_700_000_000_000 * 1024)

    def content(self) -> MemoryContent:
        if self.closed is not None:
            raise self.closed
        content = MemoryContent(self, next(self._numbers))
        self.contents.append(content)
        return content

    def submit(self, message: Message, done: Accepted) -> int:
        if self.raises is not None:
            raise self.raises
        assert isinstance(message.content, MemoryContent)
        accepting = Accepting(message, done, message.content.message)
        self.waiting.append(accepting)
        if self.on_submit is not None:
            self.on_submit()
        if not self.held:
            self.commit()
        return accepting.number

    def commit(self, error: Exception | None = None) -> None:
        """The group commit: everybody waiting is told."""
        waiting, self.waiting = self.waiting, []
        for accepting in waiting:
            problem = error or self.refusal
            if problem is None:
                self.accepted.append(accepting)
                accepting.done(accepting.number, None)
            else:
                accepting.done(0, problem)

    def space(self) -> MemorySpace:
        return self.room

    @property
    def leftovers(self) -> list[MemoryContent]:
        """Contents that are neither accepted nor waiting nor discarded: there must be none."""
        kept = {id(entry.content) for entry in [*self.accepted, *self.waiting]}
        return [content for content in self.contents if not content.discarded and id(content) not in kept]
