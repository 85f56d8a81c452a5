"""A Connection to a ScriptedServer, and a job over it: the frame of most tests of delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.scripted_server import EXTENSIONS, Script, ScriptedServer

from relay.config.model import TlsPolicy
from relay.delivery.connection import Connection
from relay.delivery.job import Job, Verdict
from relay.delivery.opening import Opening, open_connection
from relay.delivery.timeouts import Timeouts
from relay.observe.events import Events
from relay.outcome import Delivered, Failed
from relay.routing.login import Login
from relay.routing.target import Target

WITHOUT_PIPELINING = tuple(name for name in EXTENSIONS if name != "PIPELINING")


def short(*phases: str) -> Timeouts:
    """A tenth of a second for these phases; all others have the time they really have."""
    return Timeouts(**dict.fromkeys(phases, 0.1))


@dataclass(frozen=True)
class Policy:
    """What an opening needs of a lane's policy."""

    tls: TlsPolicy = "opportunistic"
    ca_file: Path | None = None
    login: Login | None = None
    route: str = "smarthost"


@asynccontextmanager
async def connected(
    script: Script | None = None,
    extensions: tuple[str, ...] = EXTENSIONS,
    timeouts: Timeouts | None = None,
    **options: Any,
) -> AsyncIterator[tuple[ScriptedServer, Connection]]:
    """A server and a connection to it, which is cut at the end. options: those of ScriptedServer."""
    async with ScriptedServer(script, extensions, **options) as server:
        opening = Opening("relay.example.com", Events(), timeouts=timeouts or Timeouts())
        connection = await open_connection(
            Target("mx.example.net", "127.0.0.1", server.port), Policy(), opening
        )
        try:
            yield server, connection
        finally:
            connection.abort()
            await connection.wait_closed()


async def send(connection: Connection, work: Job) -> Verdict:
    """Start a job and wait for its end; the connection is idle or closed when `done` is called."""
    end: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def done(which: Connection, what: Job, verdict: Verdict) -> None:
        assert which is connection and what is work
        assert which.idle is not which.closed
        end.set_result(verdict)

    connection.start(work, done)
    assert not connection.idle
    return await end


def fate(work: Job, index: int = 0) -> tuple[str, str, str]:
    """(d, D, F or A for delivered, Deferred, Failed, Ambiguous; enhanced code; stage) of a recipient."""
    outcome = work.results[index]
    if isinstance(outcome, Delivered):
        return "d", outcome.reply.enhanced, ""
    letter = "F" if isinstance(outcome, Failed) else "A" if outcome.ambiguous else "D"
    return letter, outcome.reply.enhanced, outcome.stage
