"""The next hops of the demonstration: small SMTP servers on loopback that answer as their letter says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from aiosmtpd.smtp import SMTP, Envelope, Session

from relay.demo.cast import Letter

_SIZE = 64 * 2**20  # octets of a message somebody may send by hand


class Mail(NamedTuple):
    """One message that a next hop accepted."""

    sender: str
    recipients: list[str]
    content: bytes


class Server(SMTP):
    line_length_limit = 2**16  # octets; aiosmtpd's own 1001 would refuse mail that everybody takes


@dataclass
class Sink:
    """One next hop. inbox: the last hundred messages that it accepted."""

    letter: Letter
    port: int = 0
    inbox: list[Mail] = field(default_factory=list)
    _said: dict[str, int] = field(default_factory=dict)  # refusals per recipient since its last acceptance
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens on a free port."""
        self._server = await asyncio.get_running_loop().create_server(self._session, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Idempotent. Connections end when the relay closes them."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _session(self) -> Server:
        name = f"host.{self.letter.domain}"
        return Server(self, hostname=name, ident="ESMTP", data_size_limit=_SIZE, enable_SMTPUTF8=True)

    async def handle_RCPT(  # the name aiosmtpd looks for
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        count = self._said.get(address, 0)
        if self.letter.refusals and (self.letter.stubborn or count < len(self.letter.refusals)):
            self._said[address] = count + 1
            return self.letter.refusals[count % len(self.letter.refusals)]
        self._said.pop(address, None)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.letter.pause)
        assert isinstance(envelope.content, bytes)
        sender = (envelope.mail_from or "").removeprefix("<>")  # aiosmtpd's name for the null sender
        self.inbox.append(Mail(sender, list(envelope.rcpt_tos), envelope.content))
        del self.inbox[:-100]
        return "250 2.0.0 Kept"
