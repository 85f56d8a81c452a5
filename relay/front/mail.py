"""The mail transaction of a session: from MAIL to the final dot (RFC 5321 section 3.3). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mailqueue.entry import Recipient
from relay.envelope import Envelope
from relay.front import received
from relay.front.header import Facts
from relay.front.params import MailParams
from relay.front.replies import Refused

if TYPE_CHECKING:
    from relay.front.intake import Intake
    from relay.front.rewrite import Rewriter
    from relay.front.service import Service


@dataclass(frozen=True, slots=True)
class Caller:
    """Who EHLO or HELO said it is. client: "name[address]" as logged; origin: the `from` clause of our
    Received."""

    client: str
    helo: str
    extended: bool
    origin: str


def caller(client: str, address: str, helo: str, extended: bool, secure: str) -> Caller:
    """secure: the version of TLS, "" in clear."""
    origin = f"{received.helo_text(helo)} ({received.address_literal(address)})"
    if secure:
        origin = f"{origin}\r\n\t(using {secure})"
    return Caller(client, helo, extended, origin)


@dataclass(slots=True)
class Mail:
    """lanes: what Message takes; name: the queue id, "" before DATA; utf8: some address is not ASCII;
    original: the sender as the client gave it, where a rule of `rewrite:` put another in its place."""

    caller: Caller
    sender: str
    params: MailParams
    utf8: bool
    login: str = ""  # who logged in
    secure: str = ""  # the version of TLS, "" in clear
    lanes: dict[str, list[Recipient]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)  # see recipient_key
    name: str = ""
    original: str = ""
    refused: Refused | None = None  # the recipient's refusal that answers a DATA without any recipient

    def rewrite(self, rewriter: Rewriter) -> None:
        """Before the first recipient: its lane depends on the sender."""
        old, self.sender = self.sender, rewriter.sender(self.sender)
        if self.sender != old:
            self.original = old
            self.utf8 = not self.sender.isascii()

    def add(self, lane: str, recipient: Recipient, key: str) -> None:
        """key: the recipient_key, which the caller has looked for in `seen`."""
        self.seen.add(key)
        group = self.lanes.get(lane)
        if group is None:
            self.lanes[lane] = [recipient]
        else:
            group.append(recipient)

    def refuse(self, refusal: Refused) -> None:
        """A recipient was refused. A temporary reason outlasts a permanent one: it may be our trouble."""
        if self.refused is None or refusal.reply.code < 500:
            self.refused = refusal

    @property
    def protocol(self) -> str:
        """RFC 3848; RFC 6531 section 4.3."""
        if not self.caller.extended:
            return "SMTP"
        name = "UTF8SMTP" if self.params.smtputf8 else "ESMTP"
        return f"{name}{'S' if self.secure else ''}{'A' if self.login else ''}"

    def trace(self, service: Service, facts: Facts) -> bytes:
        """The header lines that go on top: our Received, and what the configuration asks to add."""
        only = next(iter(self.lanes.values()))[0].address if len(self.seen) == 1 else ""
        now = service.wall()
        lines = received.received_line(
            self.caller.origin, service.hostname, self.protocol, self.name, only, now
        )
        if "date" in service.add_headers and not facts.has_date:
            lines += received.date_line(now)
        if "message-id" in service.add_headers and not facts.message_id:
            lines += received.message_id_line(self.name, service.hostname)
        return lines

    def envelope(self, service: Service, intake: Intake) -> Envelope:
        """What goes with the message; 8-bit and UTF-8 only where declared and real."""
        params, facts = self.params, intake.facts
        return Envelope(
            self.sender,
            params.envid,
            params.ret,
            params.eightbit and not intake.ascii,
            params.smtputf8 and (self.utf8 or not facts.ascii),
            self.caller.client,
            self.caller.helo,
            self.protocol,
            service.listener,
            self.login,
            facts.message_id,
            original=self.original,
        )


def recipient_key(address: str) -> str:
    """What makes two recipients one: the local part as it is, the domain in any case."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"
