"""users_file read again when it changes: looked at every LOOK seconds in a thread, never on the hot path.

A file that cannot be used leaves the users as they are; that is said once and counted.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.front.authenticator import Authenticator
from relay.observe.events import Events
from relay.users.reading import Mark, Reading, mark_of, read_users, trouble

LOOK = 1.0  # seconds


class UsersWatch:
    """configure() at the start and after a reload, `await settled()` where the first users must be known,
    stop() once."""

    def __init__(self, authenticator: Authenticator, events: Events) -> None:
        self._authenticator = authenticator
        self._events = events
        self._path: Path | None = None
        self._mark: Mark | None = None  # of the content that is in use, or that cannot be used
        self._seen: Mark | None = None  # at the last look
        self._told: tuple[str, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()

    def configure(self, path: Path | None) -> None:
        """From now on this file; None: nobody may log in, nothing is looked at."""
        if path == self._path:
            return
        self.stop()
        self._path, self._mark, self._seen, self._told = path, None, None, ()
        if path is None:
            self._authenticator.learn(None)
        else:
            self._first.clear()
            self._task = asyncio.get_running_loop().create_task(self._watch(path))

    async def settled(self) -> None:
        """Returns when the file was looked at once."""
        if self._path is not None:
            await self._first.wait()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self, path: Path) -> None:
        while True:
            try:
                found = await asyncio.to_thread(self._look, path)
            except (OSError, ValueError) as error:
                self._unusable(path, error)
            except Exception as error:
                self._events.bug("front", error)
            else:
                if found is not None:
                    self._use(found)
            self._first.set()
            await asyncio.sleep(LOOK)

    def _look(self, path: Path) -> Reading | None:
        """In a thread: the file's content when it is new. One that is being rewritten in place is left
        alone until it has stayed the same for a look."""
        mark = mark_of(path)
        seen, self._seen = self._seen, mark
        if mark == self._mark:
            return None
        in_place = seen is not None and seen[2] == mark[2]
        if in_place and mark != seen:
            return None
        try:
            return read_users(path)
        except ValueError:  # its content: not again before it changes
            self._mark = mark
            raise

    def _use(self, found: Reading) -> None:
        self._mark = self._seen = found.mark
        self._authenticator.learn(found.listing)
        self._events.users_read(len(found.listing.users))
        self._say(found.remarks)

    def _unusable(self, path: Path, error: Exception) -> None:
        self._say((trouble(path, error),))

    def _say(self, remarks: tuple[str, ...]) -> None:
        """What was said about the last content is not said again."""
        for remark in remarks:
            if remark not in self._told:
                self._events.users_trouble(remark)
        self._told = remarks
