"""A listener with TLS or behind a proxy on a free port, and clients of it that decide every octet."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.certificates import Pair, authority
from fakes.front import NOW, DomainRoutes, RecordingEvents
from fakes.memory_queue import MemoryQueue

from relay.config.model import Config
from relay.config.model import Listener as ListenerConfig
from relay.front.admission import Admission
from relay.front.authenticator import Authenticator
from relay.front.certificate import load
from relay.front.certificate_watch import CertificateWatch
from relay.front.channel import Channel
from relay.front.listener import Listener, stop_listeners
from relay.front.service import Service
from relay.front.session import Session

NAME = "relay.example.com"
PATIENCE = 5.0  # seconds until something is missed


@dataclass
class SecureFront:
    """What a test reads and does; `client()` connects."""

    service: Service
    queue: MemoryQueue
    events: RecordingEvents
    certificate: CertificateWatch
    admission: Admission[Channel]
    listener: Listener
    clients: list[Wire] = field(default_factory=list)

    @property
    def session(self) -> Session:
        """The one that is open."""
        (only,) = self.admission.all()
        assert isinstance(only, Session)
        return only

    async def client(self) -> Wire:
        made = Wire(*await asyncio.open_connection(*self.listener.address))
        self.clients.append(made)
        return made

    async def secure_client(self) -> Wire:
        """Greeted, and inside TLS; EHLO is still to be said."""
        client = await self.client()
        if self.service.tls == "starttls":
            assert await client.reply() == "220 relay.example.com ESMTP"
            assert await client.say("STARTTLS") == "220 2.0.0 begin TLS"
        await client.handshake()
        if self.service.tls == "implicit":
            assert await client.reply() == "220 relay.example.com ESMTP"
        return client

    def show(self, pair: Pair) -> None:
        """From now on this certificate."""
        with tempfile.TemporaryDirectory() as directory:
            files = pair.write(Path(directory))
            self.certificate.use(files, load(*files))

    async def stop(self, patience: float = PATIENCE) -> int:
        return await stop_listeners([self.listener], self.admission, patience)


class Wire:
    """One connection, octet by octet; inside TLS after `handshake`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._read = b""

    async def handshake(
        self, context: ssl.SSLContext | None = None, before: bytes = b"", then: bytes = b""
    ) -> ssl.SSLObject:
        """before: in the same write as the first octets of TLS; then: said in the same write as the last.
        ssl.SSLError; EOFError: it was cut."""
        context = context or authority().client()
        tls = context.wrap_bio(self._in, self._out, server_hostname=NAME)
        for _ in range(100):
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(before + self._out.read())
                before = b""
                await self._more()
            else:
                self.tls = tls
                self.writer.write(self._out.read() + (self.sealed(then) if then else b""))
                return tls
        raise AssertionError("no end of the handshake")

    async def _more(self) -> None:
        data = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
        if not data:
            raise EOFError
        self._in.write(data)

    def sealed(self, data: bytes) -> bytes:
        """The octets on the wire."""
        if self.tls is None:
            return data
        self.tls.write(data)
        return self._out.read()

    def send(self, data: bytes) -> None:
        self.writer.write(self.sealed(data))

    async def read(self) -> bytes:
        """Some octets; b"": the relay said goodbye, or the connection is closed."""
        if self.tls is None:
            return await asyncio.wait_for(self.reader.read(65536), PATIENCE)
        for _ in range(100_000):
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                try:
                    await self._more()
                except EOFError:
                    return b""
            except ssl.SSLZeroReturnError:
                return b""
        raise AssertionError("nothing to read")

    async def reply(self) -> str:
        """The last line of the next reply."""
        for _ in range(1000):
            while b"\r\n" not in self._read:
                data = await self.read()
                assert data, f"closed after {self._read!r}"
                self._read += data
            line, _, self._read = self._read.partition(b"\r\n")
            if line[3:4] == b" ":
                return line.decode()
        raise AssertionError("no end of the reply")

    async def replies(self, number: int) -> list[str]:
        return [await self.reply() for _ in range(number)]

    async def say(self, *lines: str) -> str:
        """Commands in one write; the last reply."""
        self.send("".join(f"{line}\r\n" for line in lines).encode())
        return (await self.replies(len(lines)))[-1]

    async def deliver(self, body: bytes = b"Subject: x\r\n\r\nbody\r\n") -> str:
        """EHLO and one message; the reply to its dot."""
        last = await self.say(
            "EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>", "DATA"
        )
        assert last[:3] == "354", last
        self.send(body + b".\r\n")
        return await self.reply()

    def goodbye(self) -> None:
        """close_notify; the connection stays open."""
        if self.tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
            self.writer.write(self._out.read())

    async def closed(self) -> bytes:
        """What is still said until the connection is closed; a reset is an end as well."""
        rest, self._read = self._read, b""
        try:
            for _ in range(1000):
                data = await self.read()
                if not data:
                    break
                rest += data
            self.goodbye()
            while await asyncio.wait_for(self.reader.read(65536), PATIENCE):
                pass
        except ConnectionError:
            pass
        return rest


@asynccontextmanager
async def secure_front(
    tls: str = "starttls",
    *,
    pair: Pair | None = None,
    config: dict[str, Any] | None = None,
    proxy_from: tuple[str, ...] = (),
    handshake_time: float = 60.0,
    sessions: int = 100,
    sessions_per_client: int = 100,
    authenticator: Authenticator | None = None,
) -> AsyncIterator[SecureFront]:
    """authenticator: logins are taken, in clear as well. Stopped at the end: every session is released, none
    is counted twice, and there was no bug."""
    events, queue = RecordingEvents(), MemoryQueue()
    certificate = CertificateWatch(events, lambda: NOW, handshake_time=handshake_time)
    auth = {"auth": "optional", "auth_over": "clear"} if authenticator else {}
    listening = ListenerConfig.model_validate(
        {"address": "127.0.0.1:0", "tls": tls, "proxy_from": proxy_from, **auth}
    )
    service = Service(
        Config.model_validate({"hostname": NAME, **(config or {})}), listening, queue, DomainRoutes(), events,
        lambda: NOW, authenticator, certificate,
    )  # fmt: skip
    admission: Admission[Channel] = Admission(sessions, sessions_per_client)
    listener = Listener(service, admission)
    front = SecureFront(service, queue, events, certificate, admission, listener)
    front.show(pair or authority().issue(NAME))
    await listener.start()
    try:
        yield front
    finally:
        await front.stop()
        for client in front.clients:
            client.writer.close()
        await asyncio.gather(*(each.writer.wait_closed() for each in front.clients), return_exceptions=True)
    await until(lambda: not len(admission))
    assert (events.opened, events.bugs) == (events.closed, [])


async def until(condition: Callable[[], object]) -> None:
    """Waits for what the relay does next; bounded."""
    for _ in range(int(PATIENCE * 200)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")
