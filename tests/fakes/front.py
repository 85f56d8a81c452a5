"""What the tests of the front share: events that are remembered, a transport, a loop whose time a test
moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from fakes.memory_queue import MemoryQueue

from relay.config.model import Config, Listener
from relay.envelope import Envelope
from relay.front.admission import Admission
from relay.front.authenticator import Authenticator
from relay.front.channel import Channel, ready
from relay.front.service import Service
from relay.front.session import Session
from relay.observe.events import Events
from relay.reply import Reply

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 UTC


class RecordingEvents(Events):
    """Remembers what the front says."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[tuple[str, int]] = []
        self.rejections: list[
            tuple[str, Reply, str, str, str]
        ] = []  # stage, reply, reason, sender, recipient
        self.receipts: list[tuple[str, Envelope, int, int]] = []
        self.bugs: list[BaseException] = []
        self.logins: list[tuple[str, str, str]] = []  # mechanism, result, name
        self.refusals: list[str] = []
        self.secured: list[tuple[str, str]] = []  # policy; TLS version, or why it failed
        self.unproxied: list[str] = []
        self.clients: list[str] = []
        self.opened = self.closed = self.mended = self.gave_way = 0

    def session_opened(self, listener: str, client: str) -> None:
        self.opened += 1
        self.clients.append(client)

    def session_refused(self, listener: str, client: str, reason: str) -> None:
        self.refusals.append(reason)

    def session_gave_way(self, listener: str, client: str) -> None:
        self.gave_way += 1

    def session_closed(self, listener: str, client: str) -> None:
        self.closed += 1

    def proxy_refused(self, listener: str, client: str, why: str) -> None:
        self.unproxied.append(why)

    def tls_started(self, listener: str, client: str, policy: str, version: str, cipher: str) -> None:
        self.secured.append((policy, version))

    def tls_failed(self, listener: str, client: str, policy: str, reason: str) -> None:
        self.secured.append((policy, reason))

    def command(self, verb: str, code: int) -> None:
        self.commands.append((verb, code))

    def rejected(
        self,
        listener: str,
        client: str,
        stage: str,
        reply: Reply,
        reason: str,
        sender: str = "",
        recipient: str = "",
    ) -> None:
        self.rejections.append((stage, reply, reason, sender, recipient))

    def received(self, name: str, envelope: Envelope, size: int, recipients: int) -> None:
        self.receipts.append((name, envelope, size, recipients))

    def login(self, listener: str, client: str, mechanism: str, result: str, name: str) -> None:
        self.logins.append((mechanism, result, name))

    def normalized(self, client: str) -> None:
        self.mended += 1

    def bug(self, where: str, error: BaseException) -> None:
        self.bugs.append(error)


class DomainRoutes:
    """One lane for each recipient domain. `error`: raised instead."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def lane(self, sender: str, recipient: str) -> str:
        if self.error is not None:
            raise self.error
        return "mx:" + recipient.rpartition("@")[2].lower()


class FakeTimer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """time() moves only by advance(), which runs the timers that come due, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def is_closed(self) -> bool:
        return False

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self.now + delay, callback)
        self.timers.append(timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> FakeTimer:
        return self.call_later(0.0, callback)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            due = [timer for timer in self.timers if timer.when <= end]
            if not due:
                break
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.now = first.when
            first.callback()
        self.now = end


class FakeTransport:
    """Remembers each write; close() ends the connection at once unless `stuck`."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        self.writes: list[bytes] = []
        self.reading = True
        self.closed = False
        self.aborted = False
        self.stuck = False
        self.session: Session | None = None

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return (self.address, 40000) if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after close"
        self.writes.append(data)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        if not self.stuck:
            self.lose()

    def abort(self) -> None:
        self.closed = self.aborted = True
        self.lose()

    def lose(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.connection_lost(None)

    def take(self) -> list[str]:
        """The reply lines written since the last call."""
        text = b"".join(self.writes).decode()
        self.writes.clear()
        return text.split("\r\n")[:-1]


def make_service(
    config: dict[str, Any] | None = None,
    queue: MemoryQueue | None = None,
    events: RecordingEvents | None = None,
    listener: str = "127.0.0.1:0",
    keys: dict[str, Any] | None = None,
    authenticator: Authenticator | None = None,
) -> Service:
    """A service over fakes; config: as in relay.yaml; keys: more of the listener's own."""
    settings = {"hostname": "relay.example.com", **(config or {})}
    return Service(
        Config.model_validate(settings),
        Listener(address=listener, **(keys or {})),
        queue or MemoryQueue(),
        DomainRoutes(),
        events or RecordingEvents(),
        lambda: NOW,
        authenticator,
    )


class Bench:
    """One session over fakes: bench.send(b"...") -> the reply lines."""

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        address: str = "127.0.0.1",
        admission: Admission[Channel] | None = None,
    ) -> None:
        self.loop = FakeLoop()
        self.queue = MemoryQueue()
        self.events = RecordingEvents()
        self.service = make_service(config, self.queue, self.events)
        self.admission: Admission[Channel] = Admission(1000, 1000) if admission is None else admission
        self.transport = FakeTransport(address)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.session = _session_class()(self.service, self.admission, loop)
        self.transport.session = self.session
        self.session.connection_made(cast(asyncio.Transport, self.transport))
        self.greeting = self.transport.take()

    def send(self, data: bytes) -> list[str]:
        if self.transport.session is not None:
            self.session.data_received(data)
        return self.transport.take()

    def begin(self, mail: bytes = b"MAIL FROM:<a@client.example>", *recipients: bytes) -> list[str]:
        """EHLO, MAIL, RCPT and DATA in one go."""
        lines = [b"EHLO client.example", mail]
        lines += [b"RCPT TO:<" + recipient + b">" for recipient in recipients or (b"x@remote.example",)]
        return self.send(b"\r\n".join([*lines, b"DATA", b""]))

    @property
    def content(self) -> bytes:
        """Of the last accepted message, below our Received header."""
        return self.stored.partition(b" +0000\r\n")[2]

    @property
    def stored(self) -> bytes:
        return self.queue.accepted[-1].content.data


def _session_class() -> type[Session]:
    loop = asyncio.new_event_loop()
    try:
        return ready(Session, "relay.example.com", loop)
    finally:
        loop.close()
