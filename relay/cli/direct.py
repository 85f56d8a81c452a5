"""The same requests without a daemon: on the spool itself, under its lock, as its owner.

As root the effective user becomes the owner of the spool first, so that no file of root's is left behind.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mailqueue import OfflineQueue
from mailqueue.entry import Filter, LaneTally, Row, State, Tally
from mailqueue.errors import QueueError, SpoolLocked
from mailqueue.salvage import Salvaged
from relay.admin.commands import Commands, Page
from relay.admin.request import Refused
from relay.cli.denied import denied, user_name
from relay.cli.exits import IO, NO_INPUT, NO_PERMISSION, UNAVAILABLE, Trouble


class Awaitable:
    """An OfflineQueue with the coroutine methods of the daemon's queue."""

    def __init__(self, queue: OfflineQueue) -> None:
        self._queue = queue

    async def search(self, f: Filter, after: int = 0, limit: int = 1000) -> Sequence[Row]:
        return self._queue.search(f, after, limit)

    async def count(self, f: Filter) -> int:
        return self._queue.count(f)

    async def retry(self, f: Filter) -> int:
        return self._queue.retry(f)

    async def hold(self, f: Filter) -> int:
        return self._queue.hold(f)

    async def release(self, f: Filter) -> int:
        return self._queue.release(f)

    async def drop(self, f: Filter) -> int:
        return self._queue.drop(f)

    async def lanes(self, after: str = "", limit: int = 1000) -> Sequence[LaneTally]:
        return self._queue.lanes(after, limit)

    async def read_content(self, name: str) -> bytes | Path | None:
        content = self._queue.read_content(name)
        return content.read_bytes() if isinstance(content, Path) else content

    async def salvage(self, directory: Path, dry_run: bool = False) -> AsyncIterator[Salvaged]:
        for part in self._queue.salvage(directory, dry_run):
            yield part

    def lane_tally(self, lane: str) -> LaneTally:
        return self._queue.lane_tally(lane)

    def stats(self) -> Mapping[State, Tally]:
        return self._queue.stats()


class Direct:
    """The spool opened here. Made by `open`."""

    def __init__(self, queue: OfflineQueue) -> None:
        self._queue = queue
        self._commands = Commands(Awaitable(queue))

    @classmethod
    def open(cls, spool: Path) -> Direct:
        """Trouble when there is no spool, it is not ours, or somebody holds its lock."""
        become_owner(spool)
        try:
            return cls(OfflineQueue(spool))
        except SpoolLocked:
            text = f"{spool} is in use, but nobody answers at its control socket: the relay starts or stops"
            text += "; ask again in a moment"
            raise Trouble(text, UNAVAILABLE) from None
        except QueueError as error:
            raise Trouble(str(error), IO) from None
        except PermissionError:
            who = user_name(os.geteuid())
            text = f"{spool}: {who}, whose it is, cannot come to it: open the directories above it to them"
            raise Trouble(text, NO_PERMISSION) from None

    def ask(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """As Daemon.ask."""
        pages = self._commands.answer(request)
        try:
            while (page := _following(pages)) is not None:
                yield from page
        except Refused as error:
            raise Trouble(str(error), error.code) from None
        except (QueueError, OSError) as error:
            raise Trouble(str(error), IO) from None

    def close(self) -> None:
        self._queue.close()


def _following(pages: AsyncIterator[Page]) -> Page | None:
    """The next page. Nothing here really waits, so one step of the coroutine is the whole of it."""
    step = pages.__anext__()
    try:
        step.__await__().send(None)
    except StopIteration as done:
        return cast(Page, done.value)
    except StopAsyncIteration:
        return None
    raise RuntimeError("a command waits for an event loop")


def absent(spool: Path) -> Trouble:
    """Never started, or somewhere else."""
    text = f"there is no spool at {spool}: the first start of the relay makes it"
    return Trouble(f"{text}; if it is elsewhere, say where with -c FILE or --spool DIR", NO_INPUT)


def become_owner(spool: Path) -> None:
    """Takes on the user and group that own the spool; only root can, others must be the owner."""
    try:
        owner = spool.stat()
        (spool / "format").stat()
    except FileNotFoundError:
        raise absent(spool) from None
    except PermissionError:
        raise denied(spool) from None
    user = os.geteuid()
    if user == owner.st_uid:
        return
    if user != 0:
        raise denied(spool)
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
