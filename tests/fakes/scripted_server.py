"""ScriptedServer: a wicked SMTP server on loopback whose every answer is written down beforehand.

    async with ScriptedServer({"RCPT": "452 4.5.3 too many"}) as server:
        ...                                         # connect to 127.0.0.1, server.port
    server.conversations[0].commands                # what was said, line by line

The script maps an occasion to an answer. Occasions: CONNECT (the greeting), EHLO, HELO, STARTTLS, AUTH,
RESPONSE (a line of its dialogue), MAIL, RCPT, DATA, CONTENT (as it begins), "." (the final dot), RSET, QUIT;
"RCPT bob@example.com" for one recipient and "MAIL#2" for the second call on a connection go before the plain
one. An answer is a reply ("250 ok", lines separated by LF), octets as they stand, one of DROP, RESET, STALL,
an asyncio.Event to wait for, or a tuple of these, done in order. A list gives one answer to each call over
all connections, the last for ever. Occasions without a script get what a friendly server says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType

from fakes.logins import Logins

EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
CERTIFICATE = Path(__file__).with_name("tls") / "certificate.pem"
KEY = Path(__file__).with_name("tls") / "key.pem"


class Act(Enum):
    DROP = "close the connection"
    RESET = "close it with RST"
    STALL = "say and read nothing more until the server is closed"


DROP, RESET, STALL = Act.DROP, Act.RESET, Act.STALL
Step = str | bytes | Act | asyncio.Event
Answer = Step | tuple[Step, ...]  # a tuple is done in order
Script = Mapping[str, "Answer | list[Answer]"]

FRIENDLY: dict[str, Answer] = {
    "CONNECT": "220 mx.example.net ESMTP",
    "HELO": "250 mx.example.net",
    "STARTTLS": "220 2.0.0 go ahead",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "CONTENT": b"",
    ".": "250 2.0.0 queued as 1",
    "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}


@dataclass
class Conversation:
    """One connection. chunks: what each read gave; commands: without line ends; contents: without the dot."""

    chunks: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    secure: bool = False
    clear: bytes = b""  # what came before TLS, all of it without TLS
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # either side has closed

    @property
    def octets(self) -> bytes:
        return b"".join(self.chunks)


class _Ended(Exception):
    """The connection is over."""


class ScriptedServer:
    """async with: listens on 127.0.0.1, `port`. Closing ends every connection and task."""

    def __init__(
        self,
        script: Script | None = None,
        extensions: Sequence[str] = EXTENSIONS,
        *,
        implicit_tls: bool = False,
        receive_buffer: int = 0,
        context: ssl.SSLContext | None = None,
        logins: Logins | None = None,
    ) -> None:
        """context: its certificate, instead of one that nobody signed. logins: who may log in (offered
        when `extensions` says so). receive_buffer: octets of the kernel's buffer; few make the client wait.
        """
        self.script: dict[str, Answer | list[Answer]] = dict(script or {})
        self.extensions = extensions
        self.conversations: list[Conversation] = []
        self.contents: list[bytes] = []  # accepted with 2xx, over all connections
        self.port = 0
        self._implicit_tls = implicit_tls
        self._receive_buffer = receive_buffer
        self.context = context or server_context()
        self.logins = logins
        self._calls: dict[str, int] = {}
        self._reached: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedServer:
        listener = socket.create_server(("127.0.0.1", 0))
        if self._receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        self.port = listener.getsockname()[1]
        context = self.context if self._implicit_tls else None
        self._server = await asyncio.start_server(self._accept, sock=listener, ssl=context)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def reached(self, occasion: str) -> None:
        """Returns when this occasion has come up, on any connection."""
        await self._reached.setdefault(occasion, asyncio.Event()).wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation = Conversation(secure=self._implicit_tls)
        self.conversations.append(conversation)
        task = asyncio.get_running_loop().create_task(_Session(self, conversation, reader, writer).run())
        self._tasks.add(task)

    def answer(self, occasion: str, argument: str, call: int, otherwise: str = "") -> Answer:
        """What the script says; call: the n-th of this occasion on this connection, from 1."""
        self._reached.setdefault(occasion, asyncio.Event()).set()
        for key in (f"{occasion} {argument}", f"{occasion}#{call}", occasion):
            if key in self.script:
                return self._choose(key, self.script[key])
        if occasion == "EHLO":
            lines = ["250-mx.example.net", *(f"250-{name}" for name in self.extensions), "250 HELP"]
            return "\n".join(lines)
        return otherwise or FRIENDLY.get(occasion, "500 5.5.1 unknown command")

    def _choose(self, key: str, answers: Answer | list[Answer]) -> Answer:
        if not isinstance(answers, list):
            return answers
        place = self._calls.get(key, 0)
        self._calls[key] = place + 1
        return answers[min(place, len(answers) - 1)]


class _Session:
    def __init__(
        self,
        server: ScriptedServer,
        conversation: Conversation,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.server, self.conversation = server, conversation
        self.reader, self.writer = reader, writer
        self.buffer = b""
        self.calls: dict[str, int] = {}

    async def run(self) -> None:
        try:
            await self._perform("CONNECT")
            while await self._command():
                pass
        except (_Ended, ConnectionError):
            pass
        finally:
            self.conversation.ended.set()
            self.writer.transport.abort()

    async def _command(self) -> bool:
        line = await self._until(b"\r\n")
        self.conversation.commands.append(line[:-2])
        verb = line[:4].decode("latin-1").upper().strip()
        verb = "STARTTLS" if verb == "STAR" else verb
        reply = await self._perform(verb, _address(line), self._login(verb, line))
        if verb == "DATA" and reply.startswith("3"):
            await self._content()
        elif verb == "AUTH" and reply.startswith("334"):
            await self._challenges(reply)
        elif verb == "STARTTLS" and reply.startswith("2"):
            self.buffer = b""
            await self.writer.start_tls(self.server.context)
            self.conversation.secure = True
        return verb != "QUIT"

    def _login(self, verb: str, line: bytes) -> str:
        """What AUTH is answered unless the script says otherwise."""
        logins = self.server.logins
        return logins.begin(line[:-2].decode()) if verb == "AUTH" and logins else ""

    async def _challenges(self, reply: str) -> None:
        """Occasion RESPONSE: a line of a login's dialogue."""
        while reply.startswith("334"):
            line = await self._until(b"\r\n")
            self.conversation.commands.append(line[:-2])
            logins = self.server.logins
            reply = await self._perform("RESPONSE", "", logins.respond(line[:-2].decode()) if logins else "")

    async def _content(self) -> None:
        await self._perform("CONTENT")
        self.buffer = b"\r\n" + self.buffer  # the DATA line ended with it: a lone dot is empty content
        content = (await self._until(b"\r\n.\r\n"))[2:-3]
        self.conversation.contents.append(content)
        reply = await self._perform(".")
        if reply.startswith("2"):
            self.server.contents.append(content)

    async def _perform(self, occasion: str, argument: str = "", otherwise: str = "") -> str:
        """Do what the script says; the last reply as text."""
        call = self.calls[occasion] = self.calls.get(occasion, 0) + 1
        answer = self.server.answer(occasion, argument, call, otherwise)
        said = ""
        for step in answer if isinstance(answer, tuple) else (answer,):
            if isinstance(step, str):
                said = step
                self.writer.write(step.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n")
            elif isinstance(step, bytes):
                self.writer.write(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await self._act(step)
        return said

    async def _act(self, act: Act) -> None:
        if act is STALL:
            await asyncio.Event().wait()
        if act is RESET:
            linger = struct.pack("ii", 1, 0)
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.writer.transport.abort()
        else:
            self.writer.close()
        raise _Ended

    async def _until(self, end: bytes) -> bytes:
        """Octets up to and with end; the rest stays in the buffer."""
        searched = 0
        while (place := self.buffer.find(end, max(0, searched - len(end)))) < 0:
            searched = len(self.buffer)
            chunk = await self.reader.read(65536)
            if not chunk:
                raise _Ended
            self.conversation.chunks.append(chunk)
            if not self.conversation.secure:
                self.conversation.clear += chunk
            self.buffer += chunk
        place += len(end)
        found, self.buffer = self.buffer[:place], self.buffer[place:]
        return found


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "surrogateescape")


def server_context() -> ssl.SSLContext:
    """A certificate for mx.example.net that nobody signed but itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context
