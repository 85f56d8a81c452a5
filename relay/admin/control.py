"""The control socket: the daemon's side of `relay queue` and `relay explain`.

One JSON object per line. A client sends a request, gets objects, the last of which has "end" or "error" (a
text, with an exit code in "code"), and may ask again. {"wait": true} comes every few seconds while there is
nothing else to say, so that a client can tell a long answer from a dead daemon. The socket (place.py) is mode
0600, and the peer must be the daemon's own user or root.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from relay.admin.commands import Commands, Page
from relay.admin.place import NAME, socket_path, socket_place
from relay.admin.request import INTERNAL, NO_PERMISSION, UNAVAILABLE, USAGE, Refused
from relay.observe.running import ProcessEvents

LINE = 2**20  # octets of a request at most (many ids)
CLIENTS = 16
IDLE = 60.0  # s until a client that asks nothing is sent away
WAIT = 5.0  # s between two signs of life
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


class Control:
    """spool: the directory; commands: who answers; runtime: a directory for the socket, when not the spool.

    start() needs the spool's lock to be ours."""

    def __init__(
        self, spool: Path, commands: Commands, events: ProcessEvents, runtime: Path | None = None
    ) -> None:
        self.place = socket_place(spool, runtime)
        self._known = spool / NAME  # where clients look
        self._commands = commands
        self._events = events
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens; a socket that a crashed process left behind is replaced. OSError when that cannot be."""
        listener = _bound(self.place)
        try:
            if self.place != self._known:
                _clear(self._known)
                self._known.symlink_to(self.place)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE)
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Answers under way are cut. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for path in {self._known, self.place}:
            with contextlib.suppress(OSError):  # on a dead disk it stays; the next start replaces it
                path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # the client went away or fell asleep, or we stop: nobody is left to be answered
        except Exception as error:
            self._events.bug("control", error)
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self._unwelcome(writer)
        if refusal:
            await _send(writer, [refusal])
            return
        while line := await self._line(reader, writer):
            async for page in self._pages(line):
                await _send(writer, page)

    def _unwelcome(self, writer: asyncio.StreamWriter) -> dict[str, Any] | None:
        if len(self._clients) > CLIENTS:
            return _error(f"more than {CLIENTS} clients at the control socket", UNAVAILABLE)
        uid = _peer(writer)
        if uid not in (0, os.geteuid()):
            return _error("only the relay's own user or root may do this", NO_PERMISSION)
        return None

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The next request; b"" at the end or after one that is too long."""
        try:
            return await asyncio.wait_for(reader.readline(), IDLE)
        except ValueError:
            await _send(writer, [_error(f"a request is longer than {LINE} octets", USAGE)])
            return b""

    async def _pages(self, line: bytes) -> AsyncIterator[Page]:
        """The answer to one line; trouble becomes its last object."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise Refused("a request must be a JSON object")
            async for page in _patient(self._commands.answer(request)):
                yield page
        except Refused as error:
            yield [_error(str(error), error.code)]
        except ValueError as error:
            yield [_error(f"not JSON: {error}", USAGE)]
        except (ConnectionError, GeneratorExit):
            raise
        except Exception as error:
            self._events.bug("control", error)
            yield [_error(f"internal error: {type(error).__name__}: {error}", INTERNAL)]


async def _patient(pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
    """The same pages, with a sign of life while the next one takes long."""
    while True:
        following = asyncio.ensure_future(anext(pages, None))
        try:
            while not (await asyncio.wait({following}, timeout=WAIT))[0]:
                yield [{"wait": True}]
        finally:
            if not following.done():
                following.cancel()
                await asyncio.wait({following})
        page = following.result()
        if page is None:
            return
        yield page


async def _send(writer: asyncio.StreamWriter, page: Page) -> None:
    writer.write(b"".join(json.dumps(item, separators=(",", ":")).encode() + b"\n" for item in page))
    await writer.drain()


def _error(text: str, code: int) -> dict[str, Any]:
    return {"error": text, "code": code}


def _peer(writer: asyncio.StreamWriter) -> int:
    """The user id at the other end."""
    sock = writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def _clear(place: Path) -> None:
    """Removes the socket or link of a process that died; OSError for anything else."""
    if place.is_symlink() or place.exists():
        if not (place.is_symlink() or stat.S_ISSOCK(place.lstat().st_mode)):
            raise OSError(f"{place} is there and not a socket")
        place.unlink()


def _bound(place: Path) -> socket.socket:
    """A listening socket at its place, reachable for its owner only."""
    _clear(place)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket_path(place) as path:
            listener.bind(path)
        place.chmod(0o600)
        listener.listen(CLIENTS)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
