"""One listening address: a session per connection, counted; stopping without cutting what is past its final
dot."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from typing import Any

from relay.config.address import parse_endpoint
from relay.front.admission import Admission
from relay.front.channel import Channel, ready
from relay.front.service import Service
from relay.front.session import Session

ACCEPTED_AT_ONCE = 16  # per turn of the loop; asyncio also reports so many errors a second when files run out
BACKLOG = 1024  # connections that wait in the kernel
_NO_FILES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Listener:
    """start() once, stop() once. `service` may be replaced at any time: new sessions use the new one."""

    def __init__(self, service: Service, admission: Admission[Channel]) -> None:
        """admission: shared by all listeners of the process."""
        self.service = service
        self.admission = admission
        self.address = (
            "",
            0,
        )  # host and port we really listen on (port 0 in the configuration: any free one)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. OSError when the address is taken or not ours; ValueError when it is not one."""
        loop = asyncio.get_running_loop()
        session = ready(Session, self.service.hostname, loop)
        host, port = parse_endpoint(self.service.listener)
        self._server = await loop.create_server(
            lambda: session(self.service, self.admission, loop), host, port, backlog=ACCEPTED_AT_ONCE
        )
        for listening in self._server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(BACKLOG)
                self.address = same.getsockname()[:2]

    def close(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()


async def stop_listeners(listeners: list[Listener], admission: Admission[Channel], patience: float) -> int:
    """Stop accepting, say 421 4.3.2 to the sessions that wait, let commits finish for at most `patience`
    seconds.

    Returns how many sessions had to be cut."""
    admission.closing = True
    for listener in listeners:
        listener.close()
    for session in admission.all():
        session.stop()
    with contextlib.suppress(TimeoutError):  # those left are cut
        async with asyncio.timeout(patience):
            await admission.emptied()
    cut = admission.all()
    for session in cut:
        session.abort()
    return len(cut)


def is_accept_trouble(context: Mapping[str, Any]) -> bool:
    """For the loop's exception handler: asyncio could not accept for want of files and tries again in a
    second.

    (uvloop accepts and closes such a connection, and says nothing.) `Admission` keeps this from happening
    unless something else of the process uses up the files."""
    error = context.get("exception")
    return isinstance(error, OSError) and error.errno in _NO_FILES and "accept" in context.get("message", "")
