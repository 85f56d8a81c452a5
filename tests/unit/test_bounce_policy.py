"""Who is told what: NOTIFY, the null sender, xtext."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.entry import Recipient
from relay.bounce.options import DsnOptions, parse, xtext_decode
from relay.bounce.policy import (
    Kind,
    Result,
    plan,
    plan_delayed,
    report_address,
    report_envelope,
    wants,
)
from relay.envelope import Envelope
from relay.outcome import Deferred, Delivered, Failed
from relay.reply import Reply

FAILED = Failed(Reply(550, "5.1.1", "unknown"), "mx[192.0.2.1]:25")
DEFERRED = Deferred(Reply(451, "4.3.0", "later"), "mx[192.0.2.1]:25", "rcpt")
DELIVERED = Delivered(Reply(250, "2.0.0", "ok"), "mx[192.0.2.1]:25")
NO_DSN = Delivered(Reply(250, "2.0.0", "ok"), "mx[192.0.2.1]:25", dsn_passed_on=False)
BOB = Recipient("bob@example.org")


@pytest.mark.parametrize(
    ("options", "failed", "delayed", "success"),
    [
        ("", True, True, False),
        ("ORCPT=rfc822;x@example.org", True, True, False),
        ("NOTIFY=NEVER", False, False, False),
        ("NOTIFY=FAILURE", True, False, False),
        ("notify=success,Delay", False, True, True),
        ("NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;x", True, True, True),
    ],
)
def test_notify_decides(options: str, failed: bool, delayed: bool, success: bool) -> None:
    """RFC 3461 section 4.1; without NOTIFY failures and delays are told."""
    kinds: tuple[Kind, ...] = ("failed", "delayed", "delivered", "relayed")
    assert [wants(options, kind) for kind in kinds] == [failed, delayed, success, success]


def test_a_report_goes_to_the_sender() -> None:
    assert report_address("ci@corp.example", "ops@example.com") == "ci@corp.example"


@pytest.mark.parametrize(
    ("postmaster", "kind", "recipients", "address"),
    [
        ("", "failed", (), None),
        ("ops@example.com", "failed", ("bob@example.org",), "ops@example.com"),
        ("ops@example.com", "delayed", (), None),
        ("ops@example.com", "delivered", (), None),
        ("ops@example.com", "failed", ("OPS@example.com",), None),
    ],
)
def test_the_null_sender(
    postmaster: str, kind: Kind, recipients: tuple[str, ...], address: str | None
) -> None:
    """Its failures go to the postmaster, but not those of mail to the postmaster: no circle."""
    assert report_address("", postmaster, kind, recipients) == address


def test_one_report_of_a_kind_covers_all_who_want_it() -> None:
    """Deferred recipients, NOTIFY=NEVER and hops that report by themselves are left out."""
    silent = Recipient("eve@example.org", "NOTIFY=NEVER")
    asked = Recipient("sue@example.org", "NOTIFY=SUCCESS")
    results: list[Result] = [
        (BOB, FAILED),
        (silent, FAILED),
        (Recipient("al@example.org"), FAILED),
        (BOB, DEFERRED),
    ]
    plans = plan(Envelope("ci@corp.example"), [*results, (asked, NO_DSN), (asked, DELIVERED), (BOB, NO_DSN)])
    assert [(each.kind, each.to, [who.address for who, _ in each.results]) for each in plans] == [
        ("failed", "ci@corp.example", ["bob@example.org", "al@example.org"]),
        ("relayed", "ci@corp.example", ["sue@example.org"]),
    ]


def test_a_final_delivery_is_delivered() -> None:
    """Into a capture directory there is nobody behind us to report."""
    asked = Recipient("sue@example.org", "NOTIFY=SUCCESS")
    assert [each.kind for each in plan(Envelope("a@b.example"), [(asked, DELIVERED)], final=True)] == [
        "delivered"
    ]


def test_mail_without_a_sender() -> None:
    """Failures are dropped or go to the postmaster; success is never told."""
    asked = Recipient("sue@example.org", "NOTIFY=SUCCESS,FAILURE")
    assert [(each.kind, each.to) for each in plan(Envelope(""), [(BOB, FAILED), (asked, NO_DSN)])] == [
        ("failed", "")
    ]
    assert [each.to for each in plan(Envelope(""), [(BOB, FAILED)], "ops@example.com")] == ["ops@example.com"]
    assert plan_delayed(Envelope(""), [(BOB, DEFERRED)]) is None


def test_delays_are_told_of_what_waits() -> None:
    planned = plan_delayed(Envelope("a@b.example"), [(BOB, DEFERRED), (BOB, FAILED)])
    assert planned is not None
    assert (planned.kind, planned.to, len(planned.results)) == ("delayed", "a@b.example", 1)
    assert plan_delayed(Envelope("a@b.example"), [(Recipient("x", "NOTIFY=FAILURE"), DEFERRED)]) is None


def test_the_envelope_of_a_report() -> None:
    """Null sender, and an extension only where the bytes need it."""
    plain = report_envelope("failed", "ci@corp.example", b"x", "1@relay.example.com")
    assert (plain.sender, plain.dsn, plain.eightbit, plain.smtputf8) == ("", "failed", False, False)
    wide = report_envelope("delayed", "jos\u00e9@corp.example", b"\xc3\xa9", "")
    assert (wide.dsn, wide.eightbit, wide.smtputf8) == ("delayed", True, True)


@given(st.text(st.characters(max_codepoint=127)))
def test_xtext_round_trip(text: str) -> None:
    """Anything may be written as hex, and must be where it is "+", "=" or not visible."""
    encoded = "".join(each if each.isalnum() else f"+{ord(each):02X}" for each in text)
    assert xtext_decode(encoded) == text


@pytest.mark.parametrize("text", ["+", "+4", "+zz", "+ff", "+80", "a=b", "a b", "\u00e9", "a\n"])
def test_what_is_no_xtext(text: str) -> None:
    with pytest.raises(ValueError, match="xtext"):
        xtext_decode(text)


@pytest.mark.parametrize(
    ("options", "parsed"),
    [
        ("", DsnOptions()),
        ("ORCPT=rfc822;Bob+2Bx@example.org", DsnOptions(orcpt="rfc822;Bob+x@example.org")),
        ("NOTIFY=failure,DELAY", DsnOptions(frozenset({"FAILURE", "DELAY"}))),
        ("ORCPT=utf-8;j\\x{F8}rn+2B@x.example", DsnOptions(orcpt="utf-8;j\\x{F8}rn+2B@x.example")),
        ("ORCPT=rfc822;bad+zz FUTURE=1", DsnOptions(orcpt="rfc822;bad+zz")),
        ("= NOTIFY", DsnOptions(frozenset({""}))),
    ],
)
def test_options_are_read(options: str, parsed: DsnOptions) -> None:
    assert parse(options) == parsed
