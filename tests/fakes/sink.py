"""A next hop that writes down what it gets: RecordingSink.

It speaks SMTP with pipelining on a loopback port, keeps every message byte for byte and answers as told.
It runs in a thread (`with sink:`) or in the loop of the test (`async with sink:`); it can be closed and
opened again on the same port, and refuses connections in between.

    sink = RecordingSink()
    sink.answers["bob@example.com"] = ["451 4.2.1 later"]   # each once, then 250
    sink.answers["eve@example.com"] = "550 5.1.1 unknown"   # always
    sink.answers["DATA"] = [HANG_UP]                        # a stage: CONNECT EHLO MAIL DATA DOT QUIT
    with sink:
        ...
        first, second = sink.wait(2)

It promises no opinion: any path and any parameter is taken as it stands. It is not for more than loopback.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from fakes.ports import ReservedPort

HANG_UP = ""  # as an answer: close the connection without a word
EXTENSIONS = ("PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
_PATH = re.compile(rb"[^:]*:\s*<?((?:\"(?:\\.|[^\"])*\"|[^>\" ])*)>?\s*(.*)", re.S)

Answers = str | list[str]


@dataclass(slots=True)
class Received:
    """One message as it came in. Addresses without brackets, parameters as they stood, `at` monotonic."""

    sender: str
    parameters: str
    session: int = 0  # the number of the connection, from 1
    recipients: list[str] = field(default_factory=list)  # those that were answered 2xx
    options: list[str] = field(default_factory=list)  # the parameters of each of them
    wire: bytes = b""  # dot-stuffed lines as they came, without the final dot; b"" when not kept
    size: int = 0  # octets of the wire
    digest: str = ""  # SHA-256 of the wire in hex, when the wire is not kept
    at: float = 0.0

    @property
    def content(self) -> bytes:
        """The message without the doubled dots (RFC 5321 4.5.2), line ends as they came."""
        return (b"\r\n" + self.wire).replace(b"\r\n.", b"\r\n")[2:]


class RecordingSink:
    """messages: those answered 2xx after the dot, in that order; refused: those that were not.

    keep False: forget the bytes, keep size and digest.
    """

    def __init__(
        self, host: str = "127.0.0.1", extensions: tuple[str, ...] = EXTENSIONS, *, keep: bool = True
    ) -> None:
        self.extensions = extensions
        self.keep = keep
        self.answers: dict[str, Answers] = {}
        self.delays: dict[str, float] = {}  # stage or recipient -> seconds before its reply
        self.messages: list[Received] = []
        self.refused: list[Received] = []
        self.commands: list[bytes] = []  # every command line, without CRLF
        self.sessions = 0  # connections ever
        self.open_sessions: set[SinkSession] = set()
        self.most_sessions = 0  # at one time
        self._reserved = ReservedPort(host)
        self.host, self.port = host, self._reserved.port
        self._arrived = threading.Condition()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # --- running

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"sink-{self.port}", daemon=True)
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._loop and self._thread
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._reserved.close()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._close()
        self._reserved.close()

    def open(self) -> None:
        """Listen (again). Only for a sink in a thread; in a loop: `await sink.reopen()`."""
        assert self._loop
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    def close(self) -> None:
        """Stop listening and cut every connection: the next hop is down."""
        assert self._loop
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)

    def go_on(self, key: str) -> None:
        """The reply that waits for the delay of this stage or recipient is said now; later ones do not wait.
        Only for a sink in a thread."""
        assert self._loop
        self._loop.call_soon_threadsafe(self._go_on, key)

    def _go_on(self, key: str) -> None:
        self.delays.pop(key, None)
        for session in list(self.open_sessions):
            if session.waiting and session.waits_at == key:
                session.waiting.cancel()
                session.wake()

    async def reopen(self) -> None:
        await self._open()

    async def shut(self) -> None:
        await self._close()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        listening = self._reserved.listening()
        self._server = await loop.create_server(self.session, sock=listening, backlog=1024)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for session in list(self.open_sessions):
            session.cut(reset=True)
        await asyncio.sleep(0)  # lets the cut transports close
        await asyncio.wait_for(server.wait_closed(), 10)

    # --- asking

    def wait(self, count: int, seconds: float = 30.0) -> list[Received]:
        """The messages, once there are at least `count`; AssertionError when they take longer."""
        with self._arrived:
            enough = self._arrived.wait_for(lambda: len(self.messages) >= count, seconds)
        assert enough, f"{len(self.messages)} of {count} messages after {seconds} s"
        return list(self.messages)

    async def arrived(self, count: int, seconds: float = 30.0) -> list[Received]:
        """The same, for a test in a loop."""
        return await asyncio.to_thread(self.wait, count, seconds)

    def of(self, recipient: str) -> list[Received]:
        """The messages that this recipient got."""
        return [message for message in self.messages if recipient in message.recipients]

    # --- for the sessions

    def session(self) -> SinkSession:
        """One more connection."""
        return SinkSession(self)

    def answer(self, key: str, default: str) -> str:
        """The next answer for a stage or a recipient."""
        told = self.answers.get(key)
        if isinstance(told, list):
            return told.pop(0) if told else default
        return default if told is None else told

    def delay(self, key: str) -> float:
        """Seconds before the reply to a stage or a recipient."""
        return self.delays.get(key, 0.0)

    def dot(self, message: Received) -> str:
        """The stage that the final dot of this message is, for who answers by message."""
        return "DOT"

    def record(self, message: Received, accepted: bool) -> None:
        message.at = time.monotonic()
        message.size = len(message.wire)
        if not self.keep:
            message.digest, message.wire = hashlib.sha256(message.wire).hexdigest(), b""
        with self._arrived:
            (self.messages if accepted else self.refused).append(message)
            self._arrived.notify_all()


class SinkSession(asyncio.Protocol):
    """One connection. `step` consumes one command, or the content, of the buffer and says whether it did."""

    def __init__(self, sink: RecordingSink) -> None:
        self.sink = sink
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.searched = 0
        self.output: list[bytes] = []
        self.message: Received | None = None
        self.in_data = False
        self.leaving = False  # after what waits
        self.waiting: asyncio.TimerHandle | None = None
        self.waits_at = ""  # the stage or recipient of the reply that waits
        self.verbs: dict[bytes, Callable[[bytes], None]] = {
            b"EHLO": self.ehlo, b"HELO": self.helo, b"MAIL": self.mail, b"RCPT": self.rcpt,
            b"DATA": self.data, b"RSET": self.rset, b"NOOP": self.noop, b"QUIT": self.quit,
        }  # fmt: skip

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.sink.sessions += 1
        self.number = self.sink.sessions
        self.sink.open_sessions.add(self)
        self.sink.most_sessions = max(self.sink.most_sessions, len(self.sink.open_sessions))
        self.reply("CONNECT", "220 sink.example ESMTP")
        self.run()

    def connection_lost(self, exc: Exception | None) -> None:
        self.cut()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.run()

    def run(self) -> None:
        while not self.waiting and self.transport and self.step():
            pass
        self.flush()

    def flush(self) -> None:
        """Writes all replies in one piece, unless one has to wait."""
        if self.waiting:
            return
        if self.output and self.transport:
            self.transport.write(b"".join(self.output))
        self.output.clear()

    def step(self) -> bool:
        return self.take_content() if self.in_data else self.take_command()

    def take_command(self) -> bool:
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        self.sink.commands.append(line)
        self.verbs.get(line[:4].upper(), self.unknown)(line)
        return True

    def take_content(self) -> bool:
        """The buffer begins with the CRLF that `data` put there, so that a lone dot is found too."""
        end = self.buffer.find(b"\r\n.\r\n", max(0, self.searched - 4))
        self.searched = len(self.buffer)
        if end < 0:
            return False
        assert self.message
        self.message.wire = bytes(self.buffer[2 : end + 2])
        del self.buffer[: end + 5]
        self.in_data = False
        message, self.message = self.message, None
        self.sink.record(message, self.reply(self.sink.dot(message), "250 2.0.0 kept").startswith("2"))
        return True

    def reply(self, key: str, default: str) -> str:
        """Says what the sink was told to say, now or after its delay; returns it."""
        text = self.sink.answer(key, default)
        delay = self.sink.delay(key)
        if delay or text == HANG_UP:
            self.flush()
        if text == HANG_UP:
            self.cut()
            return text
        self.output.append(text.encode() + b"\r\n")
        if delay and self.transport:
            self.waits_at = key
            self.waiting = asyncio.get_running_loop().call_later(delay, self.wake)
        return text

    def wake(self) -> None:
        self.waiting = None
        self.run()
        if self.leaving:
            self.cut()

    def cut(self, *, reset: bool = False) -> None:
        """Ends the connection after what was written; with a reset at once."""
        self.sink.open_sessions.discard(self)
        if self.waiting:
            self.waiting.cancel()
        transport, self.transport = self.transport, None
        if transport and reset:
            transport.abort()
        elif transport:
            transport.close()

    # --- the commands

    def ehlo(self, line: bytes) -> None:
        lines = ["sink.example", *self.sink.extensions]
        last = len(lines) - 1
        text = "\r\n".join(f"250{' ' if at == last else '-'}{word}" for at, word in enumerate(lines))
        self.reply("EHLO", text)

    def helo(self, line: bytes) -> None:
        self.reply("HELO", "250 sink.example")

    def mail(self, line: bytes) -> None:
        address, parameters = split(line)
        if self.reply("MAIL", "250 2.1.0 ok").startswith("2"):
            self.message = Received(address, parameters, self.number)

    def rcpt(self, line: bytes) -> None:
        address, parameters = split(line)
        if self.message is None:
            self.output.append(b"503 5.5.1 MAIL first\r\n")
        elif self.reply(address, "250 2.1.5 ok").startswith("2"):
            self.message.recipients.append(address)
            self.message.options.append(parameters)

    def data(self, line: bytes) -> None:
        if self.message is None or not self.message.recipients:
            self.output.append(b"503 5.5.1 RCPT first\r\n")
        elif self.reply("DATA", "354 go on").startswith("3"):
            self.in_data = True
            self.buffer[:0] = b"\r\n"
            self.searched = 0

    def rset(self, line: bytes) -> None:
        self.message = None
        self.reply("RSET", "250 2.0.0 ok")

    def noop(self, line: bytes) -> None:
        self.reply("NOOP", "250 2.0.0 ok")

    def quit(self, line: bytes) -> None:
        self.reply("QUIT", "221 2.0.0 bye")
        self.leaving = True
        if not self.waiting:
            self.flush()
            self.cut()

    def unknown(self, line: bytes) -> None:
        self.output.append(b"500 5.5.2 what\r\n")


def split(line: bytes) -> tuple[str, str]:
    """MAIL or RCPT line -> address and parameters."""
    match = _PATH.match(line)
    assert match, line
    return match[1].decode(), match[2].decode()
