"""One listening address: a session per connection, counted; stopping without cutting what is past its final
dot."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from relay.config.address import parse_endpoint
from relay.front.admission import Admission
from relay.front.channel import Channel, template
from relay.front.service import Service
from relay.front.session import Session

BACKLOG = 1024


class Listener:
    """start() once, stop() once. `service` may be replaced at any time: new sessions use the new one."""

    def __init__(self, service: Service, admission: Admission[Channel]) -> None:
        """admission: shared by all listeners of the process."""
        self.service = service
        self.admission = admission
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. OSError when the address is taken or not ours; ValueError when it is not one."""
        loop = asyncio.get_running_loop()
        made = template(self.service.hostname, loop)
        host, port = parse_endpoint(self.service.listener)
        self._server = await loop.create_server(
            lambda: Session(self.service, self.admission, loop, made), host, port, backlog=BACKLOG
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port we really listen on (port 0 in the configuration: any free one)."""
        assert self._server is not None, "not started"
        name: tuple[Any, ...] = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

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
