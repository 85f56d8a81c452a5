"""The certificate in force: swapped without a restart when its files were renewed.

The files are looked at every LOOK seconds in a thread, never on the way of a handshake. A pair that does not
match, or cannot be read, is a renewal half-way or a mistake: the old one stays in force; what is still so at
the next look is said once.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from relay.front.certificate import CertificateError, Loaded, load, mark_of
from relay.observe.events import Events

LOOK = 2.0  # seconds
HANDSHAKE_TIME = 60.0  # seconds


class CertificateWatch:
    """use() at the start and at each reload, start() once, stop() once. `context`: for the next handshake."""

    context: ssl.SSLContext

    def __init__(
        self,
        events: Events,
        wall: Callable[[], float] = time.time,
        *,
        handshake_time: float = HANDSHAKE_TIME,
    ) -> None:
        """wall: seconds since the epoch; handshake_time: seconds that one may take."""
        self.handshake_time = handshake_time
        self._events = events
        self._wall = wall
        self._files: tuple[Path, Path] | None = None
        self._loaded: Loaded | None = None
        self._doubt = ""  # what was wrong at the last look
        self._told = ""
        self._task: asyncio.Task[None] | None = None

    def use(self, files: tuple[Path, Path], loaded: Loaded) -> None:
        """From now on this pair, which was loaded from these files (certificate, key)."""
        renewed = self._loaded is not None
        self._files, self._loaded, self.context = files, loaded, loaded.context
        self._doubt = self._told = ""
        self._events.certificate(str(files[0]), loaded.ends, self._wall(), renewed)

    def start(self) -> None:
        """Look at the files from time to time."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.look()

    async def look(self) -> None:
        """Now, in a thread."""
        files, loaded = self._files, self._loaded
        if files is None or loaded is None:
            return
        try:
            found = await asyncio.to_thread(_renewed, files, loaded)
        except CertificateError as error:
            self._keep(str(error))
        except Exception as error:
            self._events.bug("front.tls", error)
        else:
            self._doubt = ""
            if found is not None and files == self._files:
                self.use(files, found)

    def _keep(self, why: str) -> None:
        """Half-way through a renewal it is wrong for a moment only."""
        if why == self._doubt and why != self._told:
            self._told = why
            self._events.certificate_kept(why)
        self._doubt = why


def _renewed(files: tuple[Path, Path], loaded: Loaded) -> Loaded | None:
    """In a thread. None: the files are those that were loaded. CertificateError: they are not a pair."""
    return None if mark_of(*files) == loaded.mark else load(*files)
