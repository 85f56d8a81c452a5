"""How a session begins: counted, identified by the PROXY header where its peer is a listed proxy, secured,
greeted.

    accepted -> PROXY -> let in or refused -> HANDSHAKE (implicit TLS) -> greeting -> COMMAND
                                                  ^ STARTTLS             COMMAND <- |

Limits come before a handshake, and a handshake takes the certificate that is in force then. Both kinds of TLS
are one path: start_tls on the transport that was accepted.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from relay.front import states
from relay.front.admission import Admission
from relay.front.channel import (
    BUFFER_LIMIT,
    CLOSING,
    COMMAND_TIME,
    SESSION_TIME,
    TIMED_OUT,
    Channel,
)
from relay.front.deadline import Deadline
from relay.front.policy import plain_address
from relay.front.proxy import ProxyError, parse_header
from relay.front.replies import wire
from relay.front.service import Service
from relay.reply import Reply

PROXY_TIME = 10.0  # seconds for the PROXY header
UNLIMITED = 2**30  # octets
GOODBYE_TIME = 10.0  # seconds for the client's end of TLS after ours

_REFUSALS = {
    "closing": CLOSING,
    "sessions": Reply(421, "4.7.0", "too many sessions, try again later"),
    "sessions_per_client": Reply(421, "4.7.0", "too many sessions from your address, try again later"),
    "files": Reply(421, "4.3.2", "too many open files, try again later"),
}


class Arrival(Channel):
    """Between Channel and Session."""

    __slots__ = ("_broken", "_proxy_ends")

    def __init__(
        self, service: Service, admission: Admission[Channel], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(service, admission, loop)
        self._proxy_ends = 0.0  # loop time
        self._broken: Exception | None = None  # what ended the connection during a handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        service = self.service
        peer = transport.get_extra_info("peername")
        address = plain_address(peer[0]) if peer else ""
        behind_proxy = service.proxies is not None and service.proxies.allows(address)
        sock = transport.get_extra_info("socket") if self.admission.asks_for_file() else None
        refusal = self.admission.admit(self, "" if behind_proxy else address, sock.fileno() if sock else 0)
        if refusal:
            self._turn_away(address, refusal)
            return
        self.deadline = Deadline(self.loop, COMMAND_TIME, self._tick)
        self.useful = self.deadline.since
        self._ends = self.useful + SESSION_TIME
        self.address = address
        if behind_proxy:
            self.state = states.PROXY
            self._proxy_ends = self.deadline.at = self.loop.time() + PROXY_TIME
        else:
            self._let_in()

    def _turn_away(self, address: str, refusal: str) -> None:
        """Without a handshake: on a listener with implicit TLS nothing can be said."""
        transport, service = self.transport, self.service
        self.state = states.CLOSING
        service.events.session_refused(service.listener, logged(address), refusal)
        if transport is not None:
            if service.tls != "implicit":
                transport.write(wire(_REFUSALS[refusal]))
            transport.close()

    def _let_in(self) -> None:
        service = self.service
        self.client = logged(self.address)
        self.trusted = service.trust.allows(self.address)
        service.events.session_opened(service.listener, self.client)
        if service.tls == "implicit":
            self.begin_tls()
        else:
            self._greet()

    def _greet(self) -> None:
        self.state = states.COMMAND
        if self.transport is not None:
            self.transport.write(self.service.greeting)

    # --- the PROXY header

    def step_proxy(self) -> bool:
        """What a listed proxy says first (proxy.py). False: more of it is needed, or it was none."""
        try:
            header = parse_header(self.buffer)
        except ProxyError as error:
            self._without_header(str(error))
            return False
        if header is None:
            self.deadline.at = self._proxy_ends  # not put off by what came
            if self.eof:
                self._without_header("connection closed" if self.buffer else "")
            return False
        self.at = header.size
        self.deadline.put(COMMAND_TIME)
        if header.address:
            self.address = header.address
        refusal = self.admission.identify(self, self.address)
        if refusal:
            self.deadline.cancel()
            self._turn_away(self.address, refusal)
            return False
        self._let_in()
        return True

    def _without_header(self, why: str) -> None:
        """why: "" for a proxy that only looked whether somebody listens."""
        if why:
            self.service.events.proxy_refused(self.service.listener, logged(self.address), why)
        self.leave()

    def time_out(self, reply: Reply = TIMED_OUT) -> None:
        """Nothing can be said to a proxy, or during a handshake."""
        if self.state == states.PROXY:
            self._without_header("no PROXY header in time")
        if self.state in (states.CLOSING, states.HANDSHAKE):
            self.abort()
        else:
            super().time_out(reply)

    # --- TLS

    def begin_tls(self) -> None:
        """A handshake follows what is written in this run. Octets that were read already are part of it."""
        transport, certificate = self.transport, self.service.certificate
        if transport is None or certificate is None:
            raise RuntimeError("no certificate")
        self.state = states.HANDSHAKE
        transport.pause_reading()
        transport.set_write_buffer_limits(UNLIMITED)  # else the end of a pause told to us would reach TLS
        starting = self.loop.start_tls(
            transport,
            self,
            certificate.context,
            server_side=True,
            ssl_handshake_timeout=certificate.handshake_time,
            ssl_shutdown_timeout=GOODBYE_TIME,
        )
        self.below = transport
        self.task = self.loop.create_task(starting)
        self.task.add_done_callback(self._secured)
        self.loop.call_soon(self._hand_over, transport)

    def _hand_over(self, transport: asyncio.Transport, again: bool = True) -> None:
        """What was read before TLS took over the transport (behind a PROXY header) belongs to TLS: given to
        it by way of the BufferedProtocol it is. Runs first when start_tls has put it there, and again when
        that has had its first call, which begins the handshake."""
        taker = transport.get_protocol()
        if taker is self or self.task is None:
            return
        if again:
            transport.set_write_buffer_limits()
            self.loop.call_soon(self._hand_over, transport, False)
            return
        data, self.buffer = memoryview(self.buffer), b""
        taker = cast(asyncio.BufferedProtocol, taker)
        while data:
            room = cast(memoryview, taker.get_buffer(len(data)))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            taker.buffer_updated(size)
            data = data[size:]

    def _secured(self, task: asyncio.Task[asyncio.Transport | None]) -> None:
        """The handshake is over, one way or the other; the connection may be gone as well."""
        self.task = None
        error = self._broken if task.cancelled() else task.exception()
        transport = None if task.cancelled() or error is not None else task.result()
        found = transport.get_extra_info("ssl_object") if transport is not None else None
        if transport is None or found is None or self.state != states.HANDSHAKE:
            self._unsecured(error)
            return
        service = self.service
        transport.set_write_buffer_limits(BUFFER_LIMIT)
        self.transport = transport
        self.held = self.choked = False  # of this transport
        self.secure = found.version()
        service.events.tls_started(service.listener, self.client, service.tls, self.secure, found.cipher()[0])
        self.forget()
        self.state = states.COMMAND
        self.deadline.put(COMMAND_TIME)
        if service.tls == "implicit":
            self._greet()
        self.advance()

    def connection_lost(self, error: Exception | None) -> None:
        if self.state == states.HANDSHAKE:
            self._broken = error
        super().connection_lost(error)

    def _unsecured(self, error: BaseException | None) -> None:
        """No TLS: closed. The transport does not tell us of the end of a connection during a handshake."""
        service = self.service
        if error is not None and not isinstance(error, OSError):
            service.events.bug("front.tls", error)
        if not self.stopping:
            service.events.tls_failed(service.listener, self.client, service.tls, reason(error))
        if error is not None:  # its frames hold it, and the buffers of TLS: a circle of some 200 KB
            error.__traceback__ = None
        if self.below is not None:
            self.below.abort()
        self.connection_lost(None)

    def forget(self) -> None:
        raise NotImplementedError


def logged(address: str) -> str:
    """A client as the log has it: we ask nobody for its name."""
    return f"unknown[{address}]"


def reason(error: BaseException | None) -> str:
    """Why a handshake failed, in few words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, ConnectionAbortedError):
        return "time-out"
    if error is None or isinstance(error, ConnectionError):
        return "connection closed"
    return str(error) or type(error).__name__
