"""A delivery report made with everyday arguments, and ways to read it back."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any, cast

from mailqueue.entry import Recipient
from relay import wire
from relay.bounce.compose import compose
from relay.envelope import Envelope
from relay.outcome import Failed
from relay.reply import Reply

GOLDEN = Path(__file__).parent.parent / "fixtures" / "bounce"
HEADERS = (
    b"Received: from ci (ci [10.0.0.7])\r\n\tby relay.example.com; Fri, 20 Nov 2026 18:40:00 +0000\r\n"
    b"From: CI <ci@corp.example>\r\nTo: bob@example.org\r\nSubject: =?utf-8?q?Invoice_12?=\r\n"
    b"Message-ID: <abc@corp.example>\r\n"
)
CONTENT = wire.stuff(HEADERS + b"\r\nHello,\r\n.a line with a dot\r\n")
UNKNOWN = Failed(
    Reply(
        550, "5.1.1", "<bob@example.org>: Recipient address rejected: User unknown in virtual mailbox table"
    ),
    "mx1.example.org[192.0.2.1]:25",
)
BOB = Recipient("bob@example.org", "NOTIFY=FAILURE ORCPT=rfc822;Bob+2Bx@example.org")
DEFAULTS: dict[str, Any] = {
    "hostname": "relay.example.com",
    "now": 1795300000.0,
    "queue_id": "1kq3v7c0d2p",
    "envelope": Envelope("ci@corp.example", envid="QQ+2B314"),
    "accepted": 1795200000.0,
    "results": [(BOB, UNKNOWN)],
    "content": CONTENT,
    "complete": True,
    "boundary": "=_1kq3v7c0d2p",
    "message_id": "<1.dsn@relay.example.com>",
}


def report(kind: str = "failed", **changes: Any) -> bytes:
    """A report in wire form, DEFAULTS with `changes`; what SMTP forbids is checked for every one."""
    made = compose(cast("Any", kind), **(DEFAULTS | changes))
    lines = made.split(b"\r\n")
    assert lines[-1] == b""
    assert all(
        len(line) <= 998 and b"\r" not in line and b"\n" not in line and b"\0" not in line for line in lines
    )
    assert b"." not in lines
    return made


def parsed(made: bytes) -> EmailMessage:
    """The report as a program reads it; defects are failures."""
    message = email.message_from_bytes(wire.unstuff(made), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert len(cast("list[Message]", message.get_payload())) == 3
    return message


def parts(made: bytes) -> tuple[EmailMessage, EmailMessage, EmailMessage]:
    human, status, returned = cast("list[EmailMessage]", parsed(made).get_payload())
    return human, status, returned


def groups(made: bytes) -> list[dict[str, str]]:
    """The field groups of message/delivery-status."""
    status = parts(made)[1]
    assert status.get_content_type() == "message/delivery-status"
    return [dict(block.items()) for block in cast("list[Message[str, str]]", status.get_payload())]


def words(made: bytes) -> str:
    return str(parts(made)[0].get_content()).replace("\r\n", "\n")
