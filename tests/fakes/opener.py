"""Opener: opens connections to one port the way the relay does, and closes them at the end."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes.connected import Policy
from fakes.jobs import job
from fakes.scripted_server import CERTIFICATE, EXTENSIONS

from relay.config.model import TlsPolicy
from relay.delivery.connection import Connection
from relay.delivery.credential import Credentials
from relay.delivery.failure import OpenFailed
from relay.delivery.oauth import Fetch, Tokens
from relay.delivery.oauth_endpoint import fetch
from relay.delivery.opening import Opening, open_connection
from relay.delivery.secret import Secrets
from relay.delivery.timeouts import Timeouts
from relay.delivery.trust import Trust
from relay.observe.events import Events
from relay.outcome import Delivered
from relay.routing.login import Login
from relay.routing.target import Target

WITH_TLS = (*EXTENSIONS, "STARTTLS")


class TlsEvents(Events):
    """Writes down what is said about TLS and stages."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[tuple[str, str, str, str]] = []
        self.stages: list[str] = []

    def tls(self, direction: str, version: str, policy: str, result: str) -> None:
        self.sessions.append((direction, version, policy, result))

    def stage(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)


@dataclass
class Opener:
    """Opens connections to one server and closes them at the end."""

    port: int
    events: TlsEvents = field(default_factory=TlsEvents)
    timeouts: Timeouts = field(default_factory=Timeouts)
    source: str | None = None
    fetch: Fetch = fetch
    opened: list[Connection] = field(default_factory=list)
    opening: Opening = field(init=False)

    def __post_init__(self) -> None:
        self.secrets = Secrets(self.events.secret_exposed)
        self.tokens = Tokens(self.secrets, time.monotonic, self.fetch)
        self.opening = Opening(
            "relay.example.com",
            self.events,
            self.source,
            self.timeouts,
            credentials=Credentials(self.secrets, self.tokens),
        )

    async def open(
        self,
        tls: TlsPolicy = "none",
        *,
        name: str = "mx.example.net",
        implicit: bool = False,
        login: Login | None = None,
        ca_file: Path | None = None,
    ) -> Connection:
        target = Target(name, "127.0.0.1", self.port, implicit)
        connection = await open_connection(target, Policy(tls, ca_file, login), self.opening)
        self.opened.append(connection)
        assert connection.idle and connection.setup > 0
        return connection

    async def fail(self, tls: TlsPolicy = "none", **options: Any) -> OpenFailed:
        with pytest.raises(OpenFailed) as caught:
            await self.open(tls, **options)
        assert caught.value.host.startswith("mx.example.net[127.0.0.1]:") or "name" in options
        return caught.value

    async def __aenter__(self) -> Opener:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self.opened:
            connection.abort()
            await connection.wait_closed()


def trusting(verify: bool, ca_file: Path | None = None) -> ssl.SSLContext:
    """As Trust.context, but the certificate of the scripted server is a known one."""
    return Trust().context(verify, CERTIFICATE)


def facts(failure: OpenFailed) -> tuple[str, str, str]:
    return failure.stage, failure.reply.enhanced, failure.kind


async def deliver(connection: Connection) -> None:
    """A message goes over it."""
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work = job()
    connection.start(work, lambda *_: end.set_result(None))
    await end
    assert isinstance(work.results[0], Delivered)
