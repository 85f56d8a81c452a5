"""The small pure parts of the front: parameters, policy, Received, header facts, admission, the deadline."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from fakes.front import FakeLoop

from relay.front import header, received
from relay.front.admission import Admission
from relay.front.deadline import TICK, Deadline
from relay.front.mail import recipient_key
from relay.front.params import parse_mail, parse_rcpt
from relay.front.policy import Trust, plain_address
from relay.front.replies import Refused, wire
from relay.reply import Reply


def test_mail_parameters() -> None:
    """All of them at once; values keep their case, keywords have none."""
    params = parse_mail("size=99999999999999999999 BODY=8BITMIME SMTPUTF8 RET=full ENVID=a+2Bb AUTH=x+40y")
    assert params.size == 99999999999999999999
    assert params.eightbit and params.smtputf8
    assert (params.ret, params.envid) == ("FULL", "a+2Bb")


@pytest.mark.parametrize(
    "text",
    [
        "SIZE", "SIZE=", "SIZE=-1", "SIZE=+1", "SIZE=1_0", "SIZE=²", "SIZE=" + "1" * 21, "BODY", "BODY=x",
        "SMTPUTF8=", "RET", "RET=HDRS RET=HDRS", "ret=full RET=FULL", "ENVID=", "ENVID=a=b", "ENVID=+2b",
        "ENVID=" + "x" * 101, "ENVID=ö", "AUTH", "AUTH=",
    ],
)  # fmt: skip
def test_bad_mail_parameters(text: str) -> None:
    """501 5.5.4."""
    with pytest.raises(Refused) as caught:
        parse_mail(text)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", ""),
        ("NOTIFY=NEVER", "NOTIFY=NEVER"),
        ("notify=delay,Success,FAILURE", "notify=delay,Success,FAILURE"),
        ("ORCPT=rfc822;a+40b  NOTIFY=DELAY", "ORCPT=rfc822;a+40b NOTIFY=DELAY"),
        ("ORCPT=utf-8;a\\x{F6}b", "ORCPT=utf-8;a\\x{F6}b"),
        ("ORCPT=x;" + "a" * 498, "ORCPT=x;" + "a" * 498),
    ],
)
def test_rcpt_parameters(text: str, options: str) -> None:
    """Kept byte for byte."""
    assert parse_rcpt(text, smtputf8=False) == options


def test_orcpt_utf8() -> None:
    """UTF-8 in ORCPT only with SMTPUTF8 (RFC 6533 section 3); what xtext allows is always allowed."""
    quoted = 'ORCPT=rfc822;"a\\"b"@x.example'
    assert parse_rcpt(quoted, smtputf8=True) == parse_rcpt(quoted, smtputf8=False) == quoted
    assert parse_rcpt("ORCPT=utf-8;jörg@x", smtputf8=True) == "ORCPT=utf-8;jörg@x"
    with pytest.raises(Refused):
        parse_rcpt("ORCPT=utf-8;jörg@x", smtputf8=False)


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY", "NOTIFY=",
        "NOTIFY=NEVER,NEVER", "NOTIFY=NEVER,DELAY", "NOTIFY=DELAY,DELAY", "NOTIFY=,DELAY",
        "NOTIFY=ALWAYS", "ORCPT", "ORCPT=a", "ORCPT=;a", "ORCPT=a;", "ORCPT=a;b=c", "ORCPT=a;+zz",
        "ORCPT=x;" + "a" * 499, "NOTIFY=DELAY NOTIFY=DELAY",
    ],
)  # fmt: skip
def test_bad_rcpt_parameters(text: str) -> None:
    """501 5.5.4."""
    with pytest.raises(Refused) as caught:
        parse_rcpt(text, smtputf8=False)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.0.1", True),
        ("128.0.0.1", False),
        ("::1", True),
        ("::2", False),
        ("::ffff:127.0.0.1", True),
        ("::FFFF:10.0.0.1", False),
        ("172.16.5.5", True),
        ("", False),
        ("/run/socket", False),
    ],
)
def test_trust(address: str, expected: bool) -> None:
    """Exact networks; ::ffff: counts as IPv4, on both sides."""
    trust = Trust(["127.0.0.0/8", "::1", "::ffff:172.16.0.0/108"])
    assert trust.allows(plain_address(address)) is expected
    assert trust.allows(plain_address(address)) is expected, "remembered"


def test_trust_nobody() -> None:
    """No networks: nobody."""
    assert not Trust([]).allows("127.0.0.1")


def test_plain_address() -> None:
    """Without a zone."""
    assert plain_address("fe80::1%eth0") == "fe80::1"


def test_received() -> None:
    """RFC 5321 4.4, in UTC."""
    line = received.received_line("c ([192.0.2.1])", "h.example", "ESMTP", "id1", "x@y.example", 0.0)
    expected = (
        b"Received: from c ([192.0.2.1])\r\n\tby h.example (relay) with ESMTP id id1"
        b"\r\n\tfor <x@y.example>; Thu, 1 Jan 1970 00:00:00 +0000\r\n"
    )
    assert line == expected


def test_received_without_for() -> None:
    """More than one recipient: no `for`, it would tell one of another."""
    assert b"for <" not in received.received_line("c", "h", "SMTP", "id1", "", 0.0)


def test_date_changes() -> None:
    """The remembered text does not outlive its second."""
    first = received.date_text(1_700_000_000.9)
    assert first == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert received.date_text(1_700_000_001.0) == "Tue, 14 Nov 2023 22:13:21 +0000"


def test_helo_is_harmless() -> None:
    """Nothing a client calls itself can leave its place in the header."""
    assert received.helo_text("a b;(c)\r\nX: y<ö>") == "a?b??c???X:?y???"
    assert received.address_literal("2001:db8::1") == "[IPv6:2001:db8::1]"


def test_header_facts() -> None:
    """Names in any case, only at line starts, folded values unfolded."""
    section = (
        b"Received: 1\r\nX: received: no\r\nRECEIVED: 2\r\nmessage-ID:\r\n\t<a\xc3\xb6\r\n b>\r\nDATE: x\r\n"
    )
    facts = header.scan(section)
    assert (facts.hops, facts.message_id, facts.has_date, facts.ascii) == (2, "<aö b>", True, False)
    nothing = header.scan(b"Subject: Date: x\r\n")
    assert (nothing.hops, nothing.message_id, nothing.has_date, nothing.ascii) == (0, "", False, True)


def test_message_id_is_bounded_and_printable() -> None:
    """It goes into logs."""
    assert header.scan(b"Message-ID: a\x1b[2Jb\r\n").message_id == "a?[2Jb"
    assert len(header.scan(b"Message-ID: " + b"x" * 5000 + b"\r\n").message_id) == header.MESSAGE_ID_LIMIT


@pytest.mark.parametrize(
    ("block", "end"), [(b"", -1), (b"\r\nbody", 0), (b"A: b\r\n\r\nbody", 6), (b"A: b\r\nC: d\r\n", -1)]
)
def test_section_end(block: bytes, end: int) -> None:
    """After the last header line."""
    assert header.section_end(block) == end


def test_recipient_key() -> None:
    """Domain in any case, local part as it is."""
    assert recipient_key("A@B.Example") == recipient_key("A@b.eXAMPLE") != recipient_key("a@b.example")


def test_wire_reply() -> None:
    """ASCII only, one line."""
    assert wire(Reply(501, "5.1.3", "bad ö")) == b"501 5.1.3 bad ?\r\n"


def test_admission() -> None:
    """In all and by client; what is released makes room; a stranger's release changes nothing."""
    admission: Admission[str] = Admission(3, 2)
    assert [admission.admit(name, "a") for name in "123"] == ["", "", "sessions_per_client"]
    assert admission.admit("4", "b") == ""
    assert admission.admit("5", "c") == "sessions"
    assert not admission.release("5")
    assert admission.release("1") and not admission.release("1")
    assert admission.admit("6", "a") == ""
    assert sorted(admission.all()) == ["2", "4", "6"]
    admission.closing = True
    admission.release("2")
    assert admission.admit("7", "a") == "closing"


async def test_admission_emptied() -> None:
    """Told when the last session is gone, and at once when there is none."""
    admission: Admission[str] = Admission(3, 2)
    await admission.emptied()
    admission.admit("1", "a")
    waiting = asyncio.ensure_future(admission.emptied())
    await asyncio.sleep(0)
    assert not waiting.done()
    admission.release("1")
    await asyncio.wait_for(waiting, 5)


def test_deadline() -> None:
    """It ticks; putting it off makes no timer; cancelled it is silent."""
    loop, seen = FakeLoop(), list[bool]()
    deadline = Deadline(cast(asyncio.AbstractEventLoop, loop), 2 * TICK, lambda: seen.append(deadline.passed))
    loop.advance(TICK)
    deadline.put(2 * TICK)
    assert len(loop.timers) == 1
    loop.advance(2 * TICK)
    assert seen == [False, False, True]
    deadline.cancel()
    loop.advance(10 * TICK)
    assert len(seen) == 3
