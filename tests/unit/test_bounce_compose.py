"""The report as bytes, read back by the standard library's email package."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from fakes.report import (
    BOB,
    CONTENT,
    DEFAULTS,
    HEADERS,
    UNKNOWN,
    groups,
    parsed,
    parts,
    report,
    words,
)

from mailqueue.entry import Recipient
from relay.bounce import original
from relay.bounce.policy import HEADERS_CAP
from relay.bounce.status import host_name, status_code
from relay.envelope import Envelope
from relay.outcome import Deferred, Delivered, Failed, Outcome
from relay.reply import Reply


def test_the_header_of_a_report() -> None:
    """RFC 3834: an automatic answer, threaded under the message it is about."""
    message = parsed(report())
    assert {name: str(message[name]) for name in message if name != "Content-Type"} == {
        "Date": "Sat, 21 Nov 2026 22:26:40 +0000",
        "From": '"Mail relay at relay.example.com" <MAILER-DAEMON@relay.example.com>',
        "To": "ci@corp.example",  # as the email package shows it
        "Subject": "Your message could not be delivered",
        "Message-ID": "<1.dsn@relay.example.com>",
        "Auto-Submitted": "auto-replied",
        "In-Reply-To": "<abc@corp.example>",
        "References": "<abc@corp.example>",
        "MIME-Version": "1.0",
        "Content-Transfer-Encoding": "7bit",
    }


def test_the_fields_of_a_failure() -> None:
    """RFC 3464: the envelope id and the original recipient are decoded from xtext."""
    assert groups(report()) == [
        {
            "Original-Envelope-Id": "QQ+314",
            "Reporting-MTA": "dns; relay.example.com",
            "Arrival-Date": "Fri, 20 Nov 2026 18:40:00 +0000",
        },
        {
            "Original-Recipient": "rfc822; Bob+x@example.org",
            "Final-Recipient": "rfc822; bob@example.org",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx1.example.org",
            "Diagnostic-Code": "smtp; 550 5.1.1 <bob@example.org>: Recipient address rejected: User unknown"
            " in virtual mailbox table",
            "Last-Attempt-Date": "Sat, 21 Nov 2026 22:26:40 +0000",
            "Final-Log-ID": "1kq3v7c0d2p",
        },
    ]


def test_every_recipient_has_its_group() -> None:
    """What no server said has no Remote-MTA, and a diagnostic type of our own."""
    nowhere = Failed(Reply(0, "5.1.2", "no such domain"), "", "dns")
    made = report(
        results=[(BOB, UNKNOWN), (Recipient("x@none.example"), nowhere)], envelope=Envelope("a@b.example")
    )
    _, _, last = groups(made)
    assert (last["Final-Recipient"], last["Status"]) == ("rfc822; x@none.example", "5.1.2")
    assert last["Diagnostic-Code"] == "x-relay; no such domain"
    assert "Remote-MTA" not in last
    assert "Original-Recipient" not in last


def test_a_host_that_said_nothing_is_no_remote_mta() -> None:
    """A time-out is our word, not the server's."""
    silent = Failed(Reply(0, "", "connection timed out"), "mx1.example.org[192.0.2.1]:25", "age")
    fields = groups(report(results=[(BOB, silent)]))[1]
    assert "Remote-MTA" not in fields
    assert (fields["Status"], fields["Diagnostic-Code"]) == ("4.4.7", "x-relay; connection timed out")


def test_a_delay_says_until_when() -> None:
    waits = Deferred(Reply(451, "4.7.1", "Greylisted"), "mx[192.0.2.1]:25", "rcpt")
    made = report(
        "delayed", results=[(BOB, waits)], give_up=1795632000.0, envelope=Envelope("a@b.example", ret="FULL")
    )
    fields = groups(made)[1]
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.7.1")
    assert fields["Will-Retry-Until"] == "Wed, 25 Nov 2026 18:40:00 +0000"
    assert "need not do anything" in " ".join(words(made).split())
    assert "Wed, 25 Nov 2026" in " ".join(words(made).split())
    assert parts(made)[2].get_content_type() == "text/rfc822-headers", "RET is about failures only"


@pytest.mark.parametrize(
    ("kind", "says"), [("delivered", "was delivered to"), ("relayed", "does not confirm")]
)
def test_success(kind: str, says: str) -> None:
    made = report(kind, results=[(BOB, Delivered(Reply(250, "", "ok"), "mx[192.0.2.1]:25", False))])
    assert (groups(made)[1]["Action"], groups(made)[1]["Status"]) == (kind, "2.0.0")
    assert says in " ".join(words(made).split())


@pytest.mark.parametrize(
    ("kind", "outcome", "status"),
    [
        ("failed", Failed(Reply(550, "", "no")), "5.0.0"),
        ("failed", Failed(Reply(550, "2.1.5", "liar")), "5.0.0"),
        ("failed", Failed(Reply(550, "5.1", "short")), "5.0.0"),
        ("failed", Failed(Reply(550, "5.1.1\r\nX: y", "inject")), "5.0.0"),
        ("failed", Failed(Reply(0, "", ""), "", "age"), "4.4.7"),
        ("failed", Failed(Reply(451, "4.2.2", "full"), "", "age"), "4.2.2"),
        ("failed", Failed(Reply(451, "", "full"), "", "mail"), "4.0.0"),
        ("delayed", Deferred(Reply(0, "", "timeout")), "4.0.0"),
        ("relayed", Delivered(Reply(250, "2.6.0", "ok")), "2.6.0"),
    ],
)
def test_the_status_code(kind: Any, outcome: Outcome, status: str) -> None:
    """The reply's own where it fits the action, else made from its first digit (RFC 3463)."""
    assert status_code(kind, outcome) == status


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx.example.org[192.0.2.1]:25", "mx.example.org"),
        ("[2001:db8::1]:25", "[2001:db8::1]"),
        ("mx:25", "mx"),
    ],
)
def test_the_remote_host(host: str, name: str) -> None:
    assert host_name(host) == name


# --- what is returned


def test_the_headers_are_returned() -> None:
    """Without RET=FULL: all headers, nothing of the body."""
    _, _, returned = parts(report())
    assert returned.get_content_type() == "text/rfc822-headers"
    assert str(returned.get_payload()).encode() == HEADERS.replace(b"\r\n", b"\r\n")
    assert b"Hello" not in report()


def test_the_whole_message_is_returned_on_request() -> None:
    """RET=FULL, byte for byte, un-stuffed and stuffed again."""
    made = report(envelope=Envelope("a@b.example", ret="FULL"))
    assert b"\r\n\r\n" + CONTENT + b"\r\n--=_1kq3v7c0d2p--\r\n" in made
    assert parts(made)[2].get_content_type() == "message/rfc822"
    assert "whole message is attached" in words(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"complete": False},
        {"cap": len(CONTENT) - 2},
        {"content": CONTENT + b"x" * 999 + b"\r\n"},
        {"content": CONTENT + b"\0\r\n"},
    ],
)
def test_what_cannot_be_returned_whole(changes: dict[str, Any]) -> None:
    """Too large, or nothing SMTP may carry: the headers, and the letter says so."""
    made = report(**{"envelope": Envelope("a@b.example", ret="FULL"), **changes})
    assert parts(made)[2].get_content_type() == "text/rfc822-headers"
    assert "too large or not fit" in words(made)


def test_eight_bit_content_is_declared() -> None:
    made = report(envelope=Envelope("a@b.example", ret="FULL"), content=CONTENT + b"gr\xfc\xdfe\r\n")
    assert (parsed(made)["Content-Transfer-Encoding"], parts(made)[2]["Content-Transfer-Encoding"]) == (
        "8bit",
        "8bit",
    )
    assert b"gr\xfc\xdfe" in made


@pytest.mark.parametrize(
    ("raw", "charset"), [(b"gr\xc3\xbc\xc3\x9fe", "utf-8"), (b"gr\xfc\xdfe", "unknown-8bit")]
)
def test_eight_bit_headers_are_encoded(raw: bytes, charset: str) -> None:
    """RFC 6522 section 4: quoted-printable, so the report is ASCII and needs no extension."""
    made = report(content=HEADERS + b"X-Greeting: " + raw + b"\r\n\r\n")
    returned = parts(made)[2]
    assert made.isascii()
    assert returned.get_param("charset") == charset
    assert cast("bytes", returned.get_payload(decode=True)).endswith(b"X-Greeting: " + raw + b"\r\n")


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"", b""),
        (b"\r\nbody\r\n", b""),
        (b"body without a header\r\n", b""),
        (b"A: b\r\nbody\r\n", b"A: b\r\n"),
        (b"A: b\r\n folded\r\n\r\nbody\r\n", b"A: b\r\n folded\r\n"),
        (b"A: b\r\nCut: he", b"A: b\r\n"),
        (b"A: b\r\n" + b"X: " + b"y" * 70 + b"\r\n" * 1, b"A: b\r\nX: " + b"y" * 70 + b"\r\n"),
        (b" starts folded\r\nA: b\r\n", b""),
    ],
)
def test_only_headers_are_headers(content: bytes, kept: bytes) -> None:
    returned = parts(report(content=content, complete=False))[2]
    assert str(returned.get_payload()).encode() == kept


def test_headers_are_bounded() -> None:
    """Whole lines up to the cap."""
    made = report(content=b"".join(b"X-%05d: %s\r\n" % (n, b"y" * 100) for n in range(5000)))
    returned = str(parts(made)[2].get_payload()).encode()
    assert HEADERS_CAP - 200 < len(returned) <= HEADERS_CAP
    assert returned.endswith(b"y\r\n")


def test_a_hostile_subject_costs_little() -> None:
    """Encoded words that never end take time that grows with the square of their length: 7 s for 64 KiB."""
    began = time.process_time()
    found = original.read(b"Subject: " + b"=?a?q?x" * 9000 + b"\r\n\r\nbody\r\n", True, False)
    assert time.process_time() - began < 1.0
    assert found.subject.startswith("=?a?q?x") and len(found.headers) > 60_000


def test_a_boundary_that_occurs_is_replaced() -> None:
    """In the content or in what a server says; the same input gives the same report."""
    boundary = DEFAULTS["boundary"]
    content = CONTENT + f"--{boundary}--\r\n".encode()
    made = report(content=content, envelope=Envelope("a@b.example", ret="FULL"))
    assert parsed(made).get_boundary() != boundary
    assert made == report(content=content, envelope=Envelope("a@b.example", ret="FULL"))
    liar = Failed(Reply(550, "5.0.0", f"--{boundary}--"))
    assert parsed(report(results=[(BOB, liar)])).get_boundary() != boundary
    assert parsed(report(boundary='bad"\r\nX: y')).get_boundary() == "=_report"
