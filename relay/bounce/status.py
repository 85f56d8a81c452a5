"""The machine-readable part of a report: message/delivery-status (RFC 3464). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailqueue.entry import Recipient
from relay.bounce import clean, options
from relay.bounce.policy import Kind, Result
from relay.envelope import Envelope
from relay.outcome import Failed, Outcome
from relay.reply import Reply

_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
ADDRESS_LINE = 970  # octets of a type and an address on one line
_CLASSES = {"failed": "54", "delayed": "4", "delivered": "2", "relayed": "2"}  # 4: it expired


@dataclass(frozen=True, slots=True)
class Facts:
    """What one report is about. now, accepted, give_up: seconds since the epoch; give_up 0: not said."""

    kind: Kind
    hostname: str
    now: float
    queue_id: str
    envelope: Envelope
    accepted: float
    results: tuple[Result, ...]
    give_up: float
    to: str

    @property
    def utf8(self) -> bool:
        """A report to a UTF-8 address travels by SMTPUTF8, so all of it may be UTF-8 (RFC 6533)."""
        return not self.to.isascii()


def delivery_status(facts: Facts) -> str:
    """All fields, groups separated by an empty line; lines end with LF."""
    groups = [_message_fields(facts), *(_recipient_fields(facts, *result) for result in facts.results)]
    return "\n\n".join("\n".join(group) for group in groups) + "\n"


def _message_fields(facts: Facts) -> list[str]:
    fields = []
    if facts.envelope.envid:
        fields.append(clean.field("Original-Envelope-Id", _envelope_id(facts.envelope.envid)))
    fields.append(clean.field("Reporting-MTA", f"dns; {facts.hostname}"))
    fields.append(f"Arrival-Date: {clean.date(facts.accepted)}")
    return fields


def _envelope_id(envid: str) -> str:
    """RFC 3464 section 2.2.1: decoded; what cannot be decoded is given as it came."""
    try:
        return options.xtext_decode(envid)
    except ValueError:
        return envid


def _recipient_fields(facts: Facts, recipient: Recipient, outcome: Outcome) -> list[str]:
    fields = []
    if original := _original_recipient(recipient.options, facts.utf8):
        fields.append(f"Original-Recipient: {original}")
    fields.append(f"Final-Recipient: {clean.typed_address(recipient.address, facts.utf8)}")
    fields.append(f"Action: {facts.kind}")
    fields.append(f"Status: {status_code(facts.kind, outcome)}")
    if outcome.host and outcome.reply.code:
        fields.append(clean.field("Remote-MTA", f"dns; {host_name(outcome.host)}"))
    if diagnostic := _diagnostic(outcome.reply):
        fields.append(clean.field("Diagnostic-Code", diagnostic, facts.utf8))
    fields.append(f"Last-Attempt-Date: {clean.date(facts.now)}")
    fields.append(clean.field("Final-Log-ID", facts.queue_id))
    if facts.kind == "delayed" and facts.give_up:
        fields.append(f"Will-Retry-Until: {clean.date(facts.give_up)}")
    return fields


def _original_recipient(recipient_options: str, utf8: bool) -> str:
    """ORCPT with the address decoded; in UTF-8 only where the report is (RFC 6533 section 4)."""
    kind, _, address = options.parse(recipient_options).orcpt.partition(";")
    if not address:
        return ""
    if kind == "utf-8" and utf8:
        address = _EMBEDDED.sub(_character, address)
    if kind == "utf-8" and not address.isascii() and not utf8:
        return clean.typed_address(address)
    text = f"{clean.address(kind)[:64]}; {clean.address(address)}"
    return text if utf8 else clean.escaped(text)[:ADDRESS_LINE]


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else match[0]


def status_code(kind: Kind, outcome: Outcome) -> str:
    """The enhanced status code, from the reply where it has a fitting one (RFC 3463)."""
    reply, classes = outcome.reply, _CLASSES[kind]
    match = _STATUS.fullmatch(reply.enhanced)
    if match and match[1] in classes:
        return reply.enhanced
    if isinstance(outcome, Failed) and outcome.stage == "age":
        return "4.4.7"  # delivery time expired
    first = str(reply.code)[0] if reply.code else ""
    return f"{first if first and first in classes else classes[0]}.0.0"


def host_name(host: str) -> str:
    """ "mx.example.org[192.0.2.1]:25" -> "mx.example.org"; "[192.0.2.1]" where there is no name."""
    name, bracket, rest = host.partition("[")
    return name or f"[{rest.partition(']')[0]}]" if bracket else host.rpartition(":")[0] or host


def _diagnostic(reply: Reply) -> str:
    if reply.code:
        return f"smtp; {reply.line}"
    return f"x-relay; {reply.text}" if reply.text.strip() else ""
