"""Opening a session: connect, greeting, EHLO, STARTTLS, AUTH, and the hand-over to our own protocol.

aiosmtplib speaks up to and including AUTH; then `transport.set_protocol` gives the transport to a
`Connection`. Its time-outs are not used (None everywhere): each phase stands under `asyncio.timeout`, which
keeps who owns the socket clear when an opening is cancelled. Every failure comes out as OpenFailed, judged
by verdict.py. What a login needs is had before anybody is connected to; it is sent only over a session that
really is what `login_over` asks for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import aiosmtplib

from relay.config.model import TlsPolicy
from relay.delivery import verdict
from relay.delivery.capabilities import Capabilities
from relay.delivery.connection import Connection
from relay.delivery.credential import Credentials, NoCredential
from relay.delivery.failure import OpenFailed, judge
from relay.delivery.login import LEVELS, Credential, choose, level, log_in, unusable
from relay.delivery.plain_hosts import PlainHosts
from relay.delivery.reply_reader import clean
from relay.delivery.timeouts import Timeouts
from relay.delivery.trust import NoTrust, Trust
from relay.delivery.verdict import Own, Trouble
from relay.observe.events import Events
from relay.routing.login import Login
from relay.routing.target import Target


class SessionPolicy(Protocol):
    """What an opening needs of a lane's policy."""

    @property
    def route(self) -> str: ...
    @property
    def tls(self) -> TlsPolicy: ...
    @property
    def ca_file(self) -> Path | None: ...
    @property
    def login(self) -> Login | None: ...


_SESSIONS = {"clear": "in clear", "encrypted": "encrypted, but with nobody we know"}


@dataclass(slots=True)
class Opening:
    """What is the same for all connections of the relay; made once. hostname: said in EHLO, ASCII."""

    hostname: str
    events: Events
    source_address: str | None = None  # used for targets of its family
    timeouts: Timeouts = field(default_factory=Timeouts)
    plain: PlainHosts = field(default_factory=PlainHosts)
    tls_context: Callable[[bool, Path | None], ssl.SSLContext] = field(
        default_factory=lambda: Trust().context
    )
    credentials: Credentials | None = None  # needed by routes that log in


async def open_connection(target: Target, policy: SessionPolicy, opening: Opening) -> Connection:
    """A greeted, idle Connection to target. OpenFailed; may be cancelled at any point.

    Calls events.stage("connect", s) and ("tls", s) and events.tls(...); connection_opened/closed are the
    lane's.
    """
    begun = time.monotonic()
    tls = _needed(policy)
    plain = tls == "none" or (tls == "opportunistic" and (target.address, target.port) in opening.plain)
    session = _Session(target, policy, tls, opening)
    await session.prepare()
    try:
        connection = await session.open(starttls=not plain)
    except OpenFailed as failure:
        if not (failure.kind == "tls" and tls == "opportunistic") or target.implicit_tls:
            raise
        connection = await session.open(starttls=False)
    connection.setup = time.monotonic() - begun
    return connection


def _needed(policy: SessionPolicy) -> TlsPolicy:
    """With a login that must not be seen, TLS is no bonus: without it there is nothing to do at that host."""
    login = policy.login
    if policy.tls == "opportunistic" and login is not None and login.over != "clear":
        return "require"
    return policy.tls


class _Session:
    """One socket on its way to a Connection; after a failure of opportunistic TLS a second one."""

    def __init__(self, target: Target, policy: SessionPolicy, tls: TlsPolicy, opening: Opening) -> None:
        self._target, self._policy, self._tls, self._opening = target, policy, tls, opening
        self._host = f"{target.name}[{target.address}]:{target.port}"
        self._credential: Credential | None = None
        self._context: ssl.SSLContext
        self._secure = ""
        self._smtp: aiosmtplib.SMTP

    async def prepare(self) -> None:
        """What must be there before it is worth while to connect. OpenFailed."""
        try:
            self._context = self._opening.tls_context(self._tls == "verify", self._policy.ca_file)
            if self._policy.login is not None:
                assert self._opening.credentials is not None
                self._credential = await self._opening.credentials.of(self._policy.route, self._policy.login)
        except NoTrust as error:
            raise self._unprepared("ca_file", str(error), None) from None
        except NoCredential as error:
            own: Own = "secret" if error.reason == "auth" else "token" if error.fault else "no token now"
            raise self._unprepared(own, str(error), error.stamps) from None

    async def open(self, *, starttls: bool) -> Connection:
        """OpenFailed. starttls False: do not even ask."""
        begun = time.monotonic()
        self._secure = ""
        sock = await self._connect()
        self._smtp = aiosmtplib.SMTP(
            hostname=_server_name(self._target),
            local_hostname=self._opening.hostname,
            sock=sock,
            use_tls=self._target.implicit_tls,
            start_tls=False,
            tls_context=self._context,
            timeout=None,
        )
        try:
            await self._greeting()
            self._opening.events.stage("connect", time.monotonic() - begun)
            await self._hello()
            if starttls and not self._target.implicit_tls:
                await self._starttls()
            if self._credential is not None:
                await self._log_in(self._credential)
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
                ruling = verdict.on_no_starttls("the host does not offer STARTTLS", self._host)
                raise OpenFailed.of("starttls", ruling, self._host)
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
                raise OpenFailed("starttls", failure.reply, "tls", self._host, fault=True) from failure
            raise

    async def _handshake(self) -> None:
        begun = time.monotonic()
        async with self._judged("starttls", self._opening.timeouts.tls):
            await self._smtp.starttls(
                server_hostname=_server_name(self._target),
                tls_context=self._context,
                timeout=None,
            )
        self._opening.events.stage("tls", time.monotonic() - begun)
        await self._hello()  # what was said in clear is void (RFC 3207 section 4.2)
        self._secured()

    def _secured(self) -> None:
        self._secure = self._smtp.get_transport_info("ssl_object").version() or "TLS"
        self._count("ok")

    def _count(self, result: str) -> None:
        self._opening.events.tls("out", self._secure or "none", self._policy.tls, result)

    async def _log_in(self, credential: Credential) -> None:
        """RFC 4954. The level of the session is looked at here and now, so that no mistake elsewhere can send
        a secret to where it should not go."""
        login = self._policy.login
        assert login is not None
        session = self._smtp.get_transport_info("ssl_object")
        over = level(session)
        if LEVELS.index(over) < LEVELS.index(login.over):
            text = f"not logged in: the session is {_SESSIONS[over]}, and login_over is {login.over}"
            raise self._own("level", text)
        offered = self._smtp.server_auth_methods
        mechanism = choose(offered, credential.oauth, over)
        if not mechanism:
            raise self._own("mechanism", unusable(offered, credential.oauth))
        begun = time.monotonic()
        async with self._judged("auth", self._opening.timeouts.auth):
            code, text = await log_in(self._smtp, mechanism, credential)
        if code // 100 != 2:
            raise self._refused(code, text, credential)
        self._silent("auth")
        self._opening.events.stage("auth", time.monotonic() - begun)

    def _refused(self, code: int, text: str, credential: Credential) -> OpenFailed:
        ruling = verdict.on_reply("auth", code, clean(text.encode("utf-8", "surrogateescape")), self._host)
        if code // 100 == 5 and self._opening.credentials is not None:
            self._opening.credentials.refused(self._policy.route, credential)
        failure = OpenFailed.of("auth", ruling, self._host)
        failure.stamps = credential.stamps
        return failure

    def _own(self, what: Own, text: str) -> OpenFailed:
        stage, ruling = verdict.on_own(what, text, self._host)
        return OpenFailed.of(stage, ruling, self._host)

    def _unprepared(self, what: Own, text: str, stamps: tuple[object, ...] | None) -> OpenFailed:
        failure = self._own(what, text)
        failure.connected, failure.stamps = False, stamps
        return failure

    def _hand_over(self) -> Connection:
        transport = cast("asyncio.Transport | None", self._smtp.transport)
        if transport is None or transport.is_closing():
            text = "the host closed the connection after EHLO"
            ruling = verdict.on_trouble("ehlo", Trouble.EOF, text, self._host)
            raise OpenFailed.of("ehlo", ruling, self._host)
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
            ruling = verdict.on_trouble(stage, Trouble.NONSENSE, text, self._host)
            raise OpenFailed.of(stage, ruling, self._host)

    @asynccontextmanager
    async def _judged(self, stage: str, seconds: float) -> AsyncIterator[None]:
        """Every exception of a phase becomes OpenFailed, all but a cancellation and bugs."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise OpenFailed.of(*judge(stage, error, seconds, self._host), self._host) from error


def _server_name(target: Target) -> str:
    """For SNI and the certificate: the host name, or the address for a literal."""
    return target.address if target.name.startswith("[") else target.name
