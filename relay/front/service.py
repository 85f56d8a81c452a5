"""What the sessions of one listener share: the configuration made ready for use, the queue, the routes, the
events.

A reload makes a new Service; sessions that are open keep the one they began with.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from mailqueue.entry import Accepted, Message
from relay.config.model import Config, Listener
from relay.front.auth import MECHANISMS
from relay.front.authenticator import Authenticator
from relay.front.certificate_watch import CertificateWatch
from relay.front.from_header import rewrite_from
from relay.front.intake import ContentWriter
from relay.front.policy import Trust
from relay.front.rewrite import Rewriter
from relay.observe.events import Events


class Space(Protocol):
    """Of mailqueue: how much the spool can still take."""

    @property
    def free_bytes(self) -> int: ...
    @property
    def full(self) -> bool: ...


class Spool(Protocol):
    """What the front uses of mailqueue's Queue."""

    def content(self) -> ContentWriter: ...
    def submit(self, message: Message, done: Accepted) -> int: ...
    def space(self) -> Space: ...


class Routes(Protocol):
    """What the front uses of the route table."""

    def lane(self, sender: str, recipient: str) -> str: ...


class Service:
    """Read only; one per listener."""

    def __init__(
        self,
        config: Config,
        listener: Listener,
        queue: Spool,
        table: Routes,
        events: Events,
        wall: Callable[[], float] = time.time,
        authenticator: Authenticator | None = None,
        certificate: CertificateWatch | None = None,
    ) -> None:
        """wall: seconds since the epoch; authenticator: kept only where the listener takes logins;
        certificate: loaded, where the listener has TLS. hostname: as configured, else the machine's name."""
        self.listener = listener.address
        self.tls = listener.tls
        self.certificate = certificate
        self.proxies = Trust(listener.proxy_from) if listener.proxy_from else None
        self.hostname = config.hostname or socket.getfqdn()
        self.origin = config.origin or self.hostname
        self.limits = config.limits
        self.trust = Trust(config.trusted_networks)
        self.reject_bare = config.content.bare_newlines == "reject"
        self.rewriter = Rewriter(config.rewrite) if config.rewrite else None
        self.revise = (
            partial(rewrite_from, rewritten=self.rewriter.author, origin=self.origin)
            if self.rewriter and self.rewriter.for_header
            else None
        )
        self.add_headers = frozenset(config.add_headers)
        self.queue = queue
        self.table = table
        self.events = events
        self.wall = wall
        self.greeting = f"220 {self.hostname} ESMTP\r\n".encode()
        self.helo = f"250 {self.hostname}\r\n".encode()
        self.authenticator = authenticator if listener.auth != "off" else None
        self.auth_required = listener.auth == "required"
        self._auth_in_clear = listener.auth_over == "clear"
        self._ehlo = {secure: self._ehlo_text(secure) for secure in ("", "TLS")}

    def takes_login(self, secure: str) -> bool:
        """May a password pass in such a session? secure: the version of TLS, "" in clear."""
        return self.authenticator is not None and (bool(secure) or self._auth_in_clear)

    def ehlo_for(self, secure: str) -> bytes:
        """The reply to EHLO."""
        return self._ehlo["TLS" if secure else ""]

    def _ehlo_text(self, secure: str) -> bytes:
        """RFC 5321 4.1.1.1; the extensions: RFC 2920, 1870, 6152, 6531, 2034, 3461,
        4954; 3207 in clear only."""
        size = f"SIZE {self.limits.message_size}"
        lines = [self.hostname, "PIPELINING", size, "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"]
        if self.tls == "starttls" and not secure:
            lines.append("STARTTLS")
        if self.takes_login(secure):
            lines.append(f"AUTH {' '.join(MECHANISMS)}")
        text = [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]
        return ("\r\n".join(text) + "\r\n").encode()
