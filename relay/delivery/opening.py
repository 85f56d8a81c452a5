"""Opening a session: connect, greeting, EHLO, STARTTLS, and the hand-over to our own protocol.

aiosmtplib speaks up to and including EHLO; then `transport.set_protocol` gives the transport to a
`Connection`. Its time-outs are not used (None everywhere): each phase stands under `asyncio.timeout`, which
keeps who owns the socket clear when an opening is cancelled. Every failure comes out as OpenFailed, judged
by verdict.py.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol, cast

import aiosmtplib

from relay.config.model import TlsPolicy
from relay.delivery import verdict
from relay.delivery.capabilities import Capabilities
from relay.delivery.connection import Connection
from relay.delivery.plain_hosts import PlainHosts
from relay.delivery.reply_reader import clean
from relay.delivery.timeouts import Timeouts
from relay.delivery.verdict import Ruling, Trouble
from relay.observe.events import Events
from relay.outcome import Deferred
from relay.reply import Reply
from relay.routing.target import Target


class OpenFailed(Exception):
    """No session with this target. The lane goes to the next target; when all fail it is suspended.

    reply, host, stage: for Deferred(reply, host, stage); stage is where it ended, one of outcome.STAGES.
    kind: the reason to suspend, one of events.SUSPEND_REASONS ("connect", "greeting", "tls", "auth").
    """

    def __init__(self, stage: str, reply: Reply, kind: str, host: str) -> None:
        super().__init__(f"{host}: {stage}: {reply.line}")
        self.stage, self.reply, self.kind, self.host = stage, reply, kind, host

    @property
    def greeted(self) -> bool:
        """It got past the greeting (at most 2 such sessions in one attempt)."""
        return self.stage not in ("connect", "greeting")


class SessionPolicy(Protocol):
    """What an opening needs of a lane's policy."""

    @property
    def tls(self) -> TlsPolicy: ...


@cache
def tls_context(verify: bool) -> ssl.SSLContext:
    """TLS 1.2 or later; verify False: any certificate will do (RFC 7435, opportunistic security)."""
    if verify:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True)
class Opening:
    """What is the same for all connections of the relay; made once. hostname: said in EHLO, ASCII."""

    hostname: str
    events: Events
    source_address: str | None = None  # used for targets of its family
    timeouts: Timeouts = field(default_factory=Timeouts)
    plain: PlainHosts = field(default_factory=PlainHosts)
    tls_context: Callable[[bool], ssl.SSLContext] = tls_context


async def open_connection(target: Target, policy: SessionPolicy, opening: Opening) -> Connection:
    """A greeted, idle Connection to target. OpenFailed; may be cancelled at any point.

    Calls events.stage("connect", s) and ("tls", s) and events.tls(...); connection_opened/closed are the
    lane's.
    """
    begun = time.monotonic()
    plain = policy.tls == "none" or (
        policy.tls == "opportunistic" and (target.address, target.port) in opening.plain
    )
    session = _Session(target, policy.tls, opening)
    try:
        connection = await session.open(starttls=not plain)
    except OpenFailed as failure:
        if not (failure.kind == "tls" and policy.tls == "opportunistic") or target.implicit_tls:
            raise
        session = _Session(target, policy.tls, opening)
        connection = await session.open(starttls=False)
    connection.setup = time.monotonic() - begun
    return connection


class _Session:
    """One socket on its way to a Connection."""

    def __init__(self, target: Target, tls: TlsPolicy, opening: Opening) -> None:
        self._target, self._tls, self._opening = target, tls, opening
        self._host = f"{target.name}[{target.address}]:{target.port}"
        self._secure = ""
        self._smtp: aiosmtplib.SMTP

    async def open(self, *, starttls: bool) -> Connection:
        """OpenFailed. starttls False: do not even ask."""
        begun = time.monotonic()
        sock = await self._connect()
        self._smtp = aiosmtplib.SMTP(
            hostname=_server_name(self._target),
            local_hostname=self._opening.hostname,
            sock=sock,
            use_tls=self._target.implicit_tls,
            start_tls=False,
            tls_context=self._opening.tls_context(self._tls == "verify"),
            timeout=None,
        )
        try:
            await self._greeting()
            self._opening.events.stage("connect", time.monotonic() - begun)
            await self._hello()
            if starttls and not self._target.implicit_tls:
                await self._starttls()
            return self._hand_over()
        except BaseException:
            if self._smtp.transport is not None:
                cast(asyncio.Transport, self._smtp.transport).abort()
            raise

    async def _connect(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._target.address else socket.AF_INET
        source = self._opening.source_address
        async with self._judged("connect", self._opening.timeouts.connect):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if source is not None and (":" in source) == (family == socket.AF_INET6):
                    sock.bind((source, 0))
                await asyncio.get_running_loop().sock_connect(sock, (self._target.address, self._target.port))
            except BaseException:
                sock.close()
                raise
        return sock

    async def _greeting(self) -> None:
        async with self._judged("greeting", self._opening.timeouts.greeting):
            await self._smtp.connect()
        self._silent("greeting")
        if self._target.implicit_tls:
            self._secured()

    async def _hello(self) -> None:
        """EHLO, or HELO where EHLO is not known (RFC 5321 3.2)."""
        async with self._judged("ehlo", self._opening.timeouts.ehlo):
            try:
                await self._smtp.ehlo()
            except aiosmtplib.SMTPHeloError as refusal:
                if refusal.code // 100 != 5 or not self._smtp.is_connected:
                    raise
                await self._smtp.helo()
        self._silent("ehlo")

    async def _starttls(self) -> None:
        """After this the session is secure, or in clear and that is allowed; else OpenFailed."""
        opportunistic = self._tls == "opportunistic"
        if not self._smtp.supports_extension("starttls"):
            if not opportunistic:
                self._count("failed")
                raise self._failed(
                    "starttls", verdict.on_no_starttls("the host does not offer STARTTLS", self._host)
                )
            return
        try:
            await self._handshake()
        except OpenFailed as failure:
            refused = failure.stage == "starttls" and failure.reply.code != 0
            self._count("failed")
            if opportunistic:
                self._opening.plain.add(self._target.address, self._target.port)
                if refused and self._smtp.is_connected:
                    return
                raise OpenFailed("starttls", failure.reply, "tls", self._host) from failure
            raise

    async def _handshake(self) -> None:
        begun = time.monotonic()
        async with self._judged("starttls", self._opening.timeouts.tls):
            await self._smtp.starttls(
                server_hostname=_server_name(self._target),
                tls_context=self._opening.tls_context(self._tls == "verify"),
                timeout=None,
            )
        self._opening.events.stage("tls", time.monotonic() - begun)
        await self._hello()  # what was said in clear is void (RFC 3207 section 4.2)
        self._secured()

    def _secured(self) -> None:
        self._secure = self._smtp.get_transport_info("ssl_object").version() or "TLS"
        self._count("ok")

    def _count(self, result: str) -> None:
        self._opening.events.tls("out", self._secure or "none", self._tls, result)

    def _hand_over(self) -> Connection:
        transport = cast("asyncio.Transport | None", self._smtp.transport)
        if transport is None or transport.is_closing():
            text = "the host closed the connection after EHLO"
            raise self._failed("ehlo", verdict.on_trouble("ehlo", Trouble.EOF, text, self._host))
        capabilities = Capabilities.of(self._smtp.esmtp_extensions)
        connection = Connection(
            transport, capabilities, self._host, self._opening.timeouts, secure=self._secure
        )
        transport.set_protocol(connection)
        return connection

    def _silent(self, stage: str) -> None:
        """OpenFailed when the peer has said more than was asked: its replies would be taken for later ones.

        What arrives in a packet of its own between here and the hand-over is dropped by aiosmtplib, which
        keeps the count of replies right as well.
        """
        protocol = self._smtp.protocol
        if protocol is not None and protocol._buffer:
            text = "the host spoke before it was asked"
            raise self._failed(stage, verdict.on_trouble(stage, Trouble.NONSENSE, text, self._host))

    @asynccontextmanager
    async def _judged(self, stage: str, seconds: float) -> AsyncIterator[None]:
        """Every exception of a phase becomes OpenFailed, all but a cancellation and bugs."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise self._failed(*_judge(stage, error, seconds, self._host)) from error

    def _failed(self, stage: str, ruling: Ruling) -> OpenFailed:
        assert isinstance(ruling.outcome, Deferred)
        return OpenFailed(stage, ruling.outcome.reply, ruling.lane, self._host)


def _judge(stage: str, error: Exception, seconds: float, host: str) -> tuple[str, Ruling]:
    """(stage, ruling) for what came out of a phase. SSLError and TimeoutError are OSErrors."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        text = clean(error.message.encode("utf-8", "surrogateescape"))
        if error.code >= 0:
            return stage, verdict.on_reply(stage, error.code, text, host)
        return stage, verdict.on_trouble(stage, Trouble.NONSENSE, text, host)
    cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
    if stage == "starttls" or isinstance(cause, ssl.SSLError | ValueError):
        text = f"TLS handshake failed: {_words(cause or error, seconds)}"
        return "starttls", verdict.on_trouble("starttls", Trouble.TLS, text, host)
    if isinstance(cause, aiosmtplib.SMTPServerDisconnected):
        text = f"the host closed the connection before the {stage} was complete"
        return stage, verdict.on_trouble(stage, Trouble.EOF, text, host)
    trouble = Trouble.TIMEOUT if isinstance(cause, TimeoutError) else Trouble.REFUSED
    return stage, verdict.on_trouble(stage, trouble, f"{stage}: {_words(cause or error, seconds)}", host)


def _words(error: BaseException, seconds: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # error.strerror is "Connect call failed" for all of them
    return str(error) or type(error).__name__


def _server_name(target: Target) -> str:
    """For SNI and the certificate: the host name, or the address for a literal."""
    return target.address if target.name.startswith("[") else target.name
