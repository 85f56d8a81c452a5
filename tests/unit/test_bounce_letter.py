"""What people read in a report, addresses in UTF-8, and what hostile servers and clients can do to it."""

from __future__ import annotations

import email
import email.policy
from email.message import Message
from typing import cast

import pytest
from fakes.report import (
    BOB,
    GOLDEN,
    UNKNOWN,
    groups,
    parsed,
    report,
    words,
)
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.entry import Recipient
from relay import wire
from relay.envelope import Envelope
from relay.outcome import Deferred, Delivered, Failed, Outcome
from relay.reply import Reply

# --- UTF-8 (RFC 6533)


def test_a_utf8_recipient_of_an_ascii_sender() -> None:
    """The report stays ASCII: the address in the \\x{} form, the letter encoded."""
    made = report(results=[(Recipient("j\u00f8rn@b\u00fccher.example"), UNKNOWN)])
    assert made.isascii()
    assert groups(made)[1]["Final-Recipient"] == "utf-8; j\\x{F8}rn@b\\x{FC}cher.example"
    assert "j\u00f8rn@b\u00fccher.example" in words(made)


def test_a_utf8_sender_gets_utf8() -> None:
    """message/global-delivery-status and message/global-headers, declared 8bit."""
    made = report(
        envelope=Envelope("jos\u00e9@corp.example", smtputf8=True),
        results=[(Recipient("j\u00f8rn@x.example", "ORCPT=utf-8;j\\x{F8}rn@x.example"), UNKNOWN)],
        content="Subject: gr\u00fc\u00dfe\r\n\r\nx\r\n".encode(),
    )
    text = made.decode()
    assert "\r\nTo: <jos\u00e9@corp.example>\r\n" in text
    assert "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n" in text
    assert "\r\nOriginal-Recipient: utf-8; j\u00f8rn@x.example\r\n" in text
    assert "\r\nFinal-Recipient: utf-8; j\u00f8rn@x.example\r\n" in text
    assert "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n" in text
    assert parsed(made)["Content-Transfer-Encoding"] == "8bit"


def test_a_utf8_report_has_bounded_lines_too() -> None:
    """Octets count, not characters; code points that are none stay as they came."""
    wide = Failed(Reply(550, "5.0.0", "\u20ac" * 3000), "mx[192.0.2.1]:25")
    who = Recipient("\u20ac" * 2000 + "@x.example", "ORCPT=utf-8;a\\x{D800}\\x{110000}\\x{20AC}@x.example")
    made = report(envelope=Envelope("jos\u00e9@corp.example"), results=[(who, wide)])
    assert "Original-Recipient: utf-8; a\\x{D800}\\x{110000}\u20ac@x.example\r\n" in made.decode()


# --- the letter


def test_the_letter_is_the_agreed_one() -> None:
    """The whole text against tests/fixtures/bounce/failed.txt."""
    full = Failed(
        Reply(452, "4.2.2", "Mailbox full\nTry again later"), "mx.full.example[192.0.2.2]:25", "age"
    )
    nowhere = Failed(Reply(0, "5.1.2", "no such domain: none.example"), "", "dns")
    results = [(BOB, UNKNOWN), (Recipient("eve@full.example"), full), (Recipient("x@none.example"), nowhere)]
    assert words(report(results=results)) == (GOLDEN / "failed.txt").read_text()


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "expected"),
    [
        (535, "4.7.8", "5.7.8 wrong\n5.7.8 password", "535 5.7.8 wrong"),
        (535, "4.7.8", "wrong password", "535 4.7.8 wrong password"),
        (550, "5.1.1", "5 people know it", "550 5.1.1 5 people know it"),
        (550, "5.1.1", "5.1 people know it", "550 5.1.1 5.1 people know it"),
        (550, "", "no", "550 no"),
    ],
)
def test_one_code_is_shown(code: int, enhanced: str, text: str, expected: str) -> None:
    """Where the peer's words still begin with a code that we took for another, theirs: to the sender, to the
    programs of the sender, in the log and in the queue."""
    reply = Reply(code, enhanced, text)
    assert reply.line.startswith(expected)
    made = report(results=[(BOB, Failed(reply, "mx.example.org[192.0.2.1]:25", "age"))])
    assert f"        {expected}\n" in words(made)
    assert f"Diagnostic-Code: smtp; {expected}" in made.decode()


def test_a_thousand_recipients() -> None:
    """Fifty are described, all are in the report for programs."""
    made = report(results=[(Recipient(f"u{n}@example.org"), UNKNOWN) for n in range(1000)])
    assert len(groups(made)) == 1001
    assert "u49@example.org" in words(made)
    assert "u50@example.org" not in words(made)
    assert "And 950 more" in words(made)


def test_the_postmaster_is_told_why() -> None:
    made = report(envelope=Envelope(""), to="ops@example.com")
    assert parsed(made)["To"] == "ops@example.com"
    assert parsed(made)["Subject"] == "A message without a sender could not be delivered"
    assert "Your message" not in words(made)
    assert "as the postmaster" in words(made)


# --- hostile input


def test_a_reply_cannot_add_fields() -> None:
    """Line breaks and other controls of a remote server end up as blanks."""
    evil = Failed(
        Reply(550, "5.0.0", "no\r\nAction: delivered\n\n--=_1kq3v7c0d2p--\x1b[31m\u202e\x85x"),
        "mx\r\n[::1]:25",
    )
    made = report(results=[(Recipient("a\r\nBcc: x@y"), evil)])
    assert [group["Action"] for group in groups(made)[1:]] == ["failed"]
    assert b"\r\nBcc" not in made
    assert not any(each in made.decode() for each in "\x1b\u202e\x85")


anything = st.text(st.characters(codec=None), max_size=300)
replies = st.builds(
    Reply, st.sampled_from([0, 250, 451, 550]), st.one_of(st.just("5.1.1"), anything), anything
)
outcomes = st.one_of(
    st.builds(Failed, replies, anything, st.sampled_from(["rcpt", "age", "dns", "dot"])),
    st.builds(Deferred, replies, anything),
    st.builds(Delivered, replies, anything),
)
recipients = st.builds(Recipient, anything, anything.map(lambda text: f"NOTIFY=FAILURE ORCPT={text}"))


@given(
    kind=st.sampled_from(["failed", "delayed", "delivered", "relayed"]),
    results=st.lists(st.tuples(recipients, outcomes), min_size=1, max_size=3),
    sender=anything,
    envid=anything,
    hostname=st.just("relay.example.com") | anything,
    content=st.binary(max_size=300),
    boundary=anything,
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    now=st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_is_said_the_report_is_sound(
    kind: str,
    results: list[tuple[Recipient, Outcome]],
    sender: str,
    envid: str,
    hostname: str,
    content: bytes,
    boundary: str,
    ret: str,
    now: float,
) -> None:
    """Three parts, bounded lines, one group for each recipient, the header fields we wrote and no others."""
    envelope = Envelope(sender, envid=envid, ret=ret)
    changes = {"results": results, "hostname": hostname, "boundary": boundary, "now": now}
    made = report(kind, envelope=envelope, content=wire.stuff(content), **changes)
    message = email.message_from_bytes(wire.unstuff(made))
    payload = cast("list[Message]", message.get_payload())
    assert len(payload) == 3
    extra = {"Date", "From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
    assert extra <= set(message) <= extra | {"In-Reply-To", "References", "Content-Transfer-Encoding"}
    assert made.count(b"\r\nAction: ") == len(results)
    assert message["Content-Transfer-Encoding"] == "8bit" or made.isascii()


def test_a_very_long_reply_and_address() -> None:
    long = Failed(Reply(550, "5.0.0", "x" * 100_000 + " \u20ac" * 5000), "m" * 5000)
    made = report(results=[(Recipient("a" * 5000 + "@example.org", "ORCPT=rfc822;" + "b" * 5000), long)])
    assert len(made) < 20_000
