"""The transaction as a table: what is said, what each reply does to whom. No sockets."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fakes.jobs import job
from fakes.talk import (
    ALL,
    CONTENT,
    EOF,
    GO,
    HOST,
    NO_DATA,
    NO_MAIL,
    OK,
    RESET,
    STEPWISE,
    Line,
    people,
    talk,
)

from mailqueue.entry import Recipient
from relay.delivery.capabilities import Capabilities
from relay.delivery.job import Job, Kind
from relay.delivery.transaction import BATCH
from relay.envelope import Envelope
from relay.outcome import Deferred, Delivered
from relay.reply import Reply

# --- what is said


def test_one_write_when_pipelined() -> None:
    """MAIL, every RCPT and DATA go out in one piece (RFC 2920)."""
    result = talk([OK, OK, OK, GO, "250 2.0.0 queued"], job("a@example.org", "b@example.org"))
    assert result.said == [
        b"MAIL FROM:<alice@example.com> SIZE=32\r\n"
        b"RCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
        CONTENT,
    ]
    assert result.outcomes == "dd"
    assert Delivered(Reply(250, "2.0.0", "queued"), HOST, True) == result.job.results[0]
    assert not result.transaction.broken
    assert not result.transaction.open


def test_step_by_step_without_pipelining() -> None:
    """One command at a time, and no parameter nobody asked for."""
    result = talk([OK, OK, OK, GO, OK], job("a@example.org", "b@example.org"), STEPWISE)
    assert result.said == [
        b"MAIL FROM:<alice@example.com>\r\n",
        b"RCPT TO:<a@example.org>\r\n",
        b"RCPT TO:<b@example.org>\r\n",
        b"DATA\r\n",
        CONTENT,
    ]
    assert Delivered(Reply(250, "2.0.0", "ok"), HOST, dsn_passed_on=False) == result.job.results[1]


MIXED = Envelope("alice@example.com", envid="QQ314159+2B", ret="HDRS", eightbit=True, smtputf8=True)


@pytest.mark.parametrize(
    ("envelope", "offered", "said"),
    [
        (Envelope(""), Capabilities(), b"MAIL FROM:<>"),
        (Envelope(""), Capabilities(size=None, dsn=True), b"MAIL FROM:<>"),
        (Envelope("a@b.example"), Capabilities(size=1000), b"MAIL FROM:<a@b.example> SIZE=32"),
        (
            MIXED,
            ALL,
            b"MAIL FROM:<alice@example.com> SIZE=32 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159+2B",
        ),
        (
            MIXED,
            Capabilities(eightbit=True, smtputf8=True),
            b"MAIL FROM:<alice@example.com> BODY=8BITMIME SMTPUTF8",
        ),
        (Envelope('"a b\\"c"@b.example'), Capabilities(), b'MAIL FROM:<"a b\\"c"@b.example>'),
        (
            Envelope("é@bücher.example", smtputf8=True),
            Capabilities(smtputf8=True),
            "MAIL FROM:<é@bücher.example> SMTPUTF8".encode(),
        ),
        (Envelope("\udcff@b.example"), Capabilities(), b"MAIL FROM:<\xff@b.example>"),
    ],
)
def test_parameters_of_mail(envelope: Envelope, offered: Capabilities, said: bytes) -> None:
    """Only what is needed and offered; RET and ENVID byte for byte (RFC 3461 section 5.2)."""
    assert said == talk([], job(envelope=envelope), offered).said[0].split(b"\r\n")[0]


def test_parameters_of_rcpt() -> None:
    """NOTIFY and ORCPT go on byte for byte, and nothing is added; without DSN they stay here."""
    work = job(
        Recipient("a@example.org", "NOTIFY=success,FAILURE ORCPT=rfc822;Bob+2Bx@EXAMPLE.org"), "b@example.org"
    )
    assert (
        talk([], work)
        .said[0]
        .endswith(
            b"RCPT TO:<a@example.org> NOTIFY=success,FAILURE ORCPT=rfc822;Bob+2Bx@EXAMPLE.org\r\n"
            b"RCPT TO:<b@example.org>\r\nDATA\r\n"
        )
    )
    without = talk([], work, Capabilities(pipelining=True)).said[0]
    assert without.endswith(b"RCPT TO:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")


@pytest.mark.parametrize("offered", [ALL, STEPWISE], ids=["pipelined", "stepwise"])
@pytest.mark.parametrize(
    "work",
    [
        job("a@example.org>\r\nRCPT TO:<evil@example.org"),
        job("a\n@example.org"),
        job(Recipient("a@example.org", "NOTIFY=NEVER\r\nDATA")),
        job(envelope=Envelope("a\rb@example.com")),
        job("\ud800@example.org"),
    ],
)
def test_a_line_end_cannot_get_out(offered: Capabilities, work: Job) -> None:
    """What would be two commands, or cannot be said at all, is not said: deferred, no other host helps."""
    if work.entry.recipients[0].options:
        offered = ALL
    work.results.clear()
    result = talk([], work, offered)
    assert (result.said, result.done, result.outcomes, result.elsewhere) == ([], True, "D", [])
    assert not result.transaction.broken


# --- capabilities


@pytest.mark.parametrize(
    ("work", "offered", "enhanced"),
    [
        (job(envelope=Envelope(eightbit=True)), Capabilities(smtputf8=True), "5.6.3"),
        (job(envelope=Envelope(smtputf8=True)), Capabilities(eightbit=True), "5.6.7"),
        (job(size=1001), Capabilities(size=1000), "5.3.4"),
    ],
)
def test_what_the_peer_lacks(work: Job, offered: Capabilities, enhanced: str) -> None:
    """Row capability: nothing is said, Failed, and another host may offer it."""
    result = talk([], work, offered)
    assert (result.said, result.done, result.outcomes, result.elsewhere) == ([], True, "F", [0])
    assert (enhanced, "capability") == (work.results[0].reply.enhanced, result.stage())
    assert not result.transaction.broken


@pytest.mark.parametrize("offered", [Capabilities(size=1000), Capabilities(size=0), Capabilities()])
def test_size_that_fits(offered: Capabilities) -> None:
    """SIZE 0 and SIZE without a number mean no limit (RFC 1870 section 4)."""
    assert talk([], job(size=1000), offered).said


def test_lacking_does_not_fail_what_another_deferred() -> None:
    """An earlier host that answered 4yz may offer what this one lacks."""
    work = job(size=1001)
    work.results[0] = Deferred(Reply(451, "4.0.0", "later"), "first", "mail")
    assert talk([], work, Capabilities(size=1000)).outcomes == "D"


@pytest.mark.parametrize(
    ("extensions", "capabilities"),
    [
        ({}, Capabilities()),
        (dict.fromkeys(("pipelining", "8bitmime", "smtputf8", "dsn"), ""), Capabilities(*[True] * 4)),
        ({"size": "100"}, Capabilities(size=100)),
        ({"size": ""}, Capabilities(size=0)),
        ({"size": "10 20"}, Capabilities(size=10)),
        ({"size": "-1"}, Capabilities(size=0)),
        ({"size": "٣"}, Capabilities(size=0)),
        ({"size": "9" * 5000}, Capabilities(size=0)),
    ],
)  # fmt: skip
def test_capabilities_of_ehlo(extensions: dict[str, str], capabilities: Capabilities) -> None:
    """Whatever a peer writes behind SIZE is a limit or none."""
    assert capabilities == Capabilities.of(extensions)


# --- refusals


@dataclass(frozen=True)
class Case:
    """replies to a pipelined and to a stepwise transaction with the same end."""

    name: str
    pipelined: list[Line]
    stepwise: list[Line]
    outcomes: str
    elsewhere: list[int]
    open: bool = False  # the next transaction begins with RSET


CASES = [
    Case("mail 4yz", ["451 a", NO_MAIL, NO_MAIL, NO_MAIL, NO_DATA], ["451 a"], "DDD", [0, 1, 2]),
    Case("mail 5yz", ["550 a", NO_MAIL, NO_MAIL, NO_MAIL, NO_DATA], ["550 a"], "FFF", []),
    Case("mail 53x", ["530 a", NO_MAIL, NO_MAIL, NO_MAIL, NO_DATA], ["530 a"], "DDD", [0, 1, 2]),
    Case("rcpt mix", [OK, OK, "451 a", "550 b", GO, OK], [OK, OK, "451 a", "550 b", GO, OK], "dDF", [1]),
    Case("rcpt mix 2", [OK, "550 a", "450 b", OK, GO, OK], [OK, "550 a", "450 b", OK, GO, OK], "FDd", [1]),
    Case("rcpt 53x", [OK, OK, "530 a", OK, GO, OK], [OK, OK, "530 a", OK, GO, OK], "dDd", [1]),
    Case("rcpt 251 252", [OK, OK, "251 a", "252 b", GO, OK], [OK, OK, "251 a", "252 b", GO, OK], "ddd", []),
    Case("no rcpt 5yz", [OK, "550 a", "551", "553", NO_DATA], [OK, "550 a", "551", "553"], "FFF", [], True),
    Case("no rcpt 4yz", [OK, *["450"] * 3, NO_DATA], [OK, "450", "451", "452"], "DDD", [0, 1, 2], True),
    Case("no rcpt 552", [OK, "552 a", "552", "552", NO_DATA], [OK, "552 a", "552", "552"], "FFF", [], True),
    Case("data 4yz", [OK, OK, OK, "550 b", "451 a"], [OK, OK, OK, "550 b", "451 a"], "DDF", [], True),
    Case("data 5yz", [OK, OK, "450 b", OK, "554 a"], [OK, OK, "450 b", OK, "554 a"], "FDF", [1], True),
    Case("dot 4yz", [OK, OK, OK, OK, GO, "451 a"], [OK, OK, OK, OK, GO, "451 a"], "DDD", []),
    Case("dot 5yz", [OK, OK, "450 b", OK, GO, "554 a"], [OK, OK, "450 b", OK, GO, "554 a"], "FDF", [1]),
    Case("dot 53x", [OK, OK, OK, OK, GO, "535 a"], [OK, OK, OK, OK, GO, "535 a"], "DDD", [0, 1, 2]),
    Case("dot 2yz", [OK, OK, OK, OK, "350 go", "252 a"], [OK, OK, OK, OK, "399 go", "200 a"], "ddd", []),
]  # fmt: skip


@pytest.mark.parametrize("stepwise", [False, True], ids=["pipelined", "stepwise"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusals(case: Case, stepwise: bool) -> None:
    """The earliest refusal decides; the replies pipelined behind it are echoes."""
    lines, offered = (case.stepwise, STEPWISE) if stepwise else (case.pipelined, ALL)
    result = talk(lines, job(*people(3)), offered)
    assert result.done
    assert (case.outcomes, case.elsewhere) == (result.outcomes, result.elsewhere)
    assert case.open == result.transaction.open
    assert not result.transaction.broken
    assert Kind.DONE is result.transaction.verdict.kind
    assert ("auth" if "53x" in case.name else "") == result.transaction.verdict.lane


@pytest.mark.parametrize(
    "lines",
    [
        ["550 a", NO_MAIL, NO_MAIL, GO],
        ["550 a", OK, OK, GO],
        [OK, "550 a", "550 b", GO],
    ],
)
@pytest.mark.parametrize("last", ["250 queued", "554 no valid recipients", "451 what"])
def test_lone_dot(lines: list[Line], last: str) -> None:
    """354 although nobody was accepted: a lone dot, its reply is ignored (RFC 2920 section 3.1)."""
    result = talk([*lines, last], job(*people(2)))
    assert result.said[-1] == b".\r\n"
    assert (result.done, result.outcomes, result.elsewhere) == (True, "FF", [])
    assert not result.transaction.broken


def test_reset_before_the_next() -> None:
    """A MAIL that nothing ended is cleared by RSET, in the same write, before the next transaction."""
    result = talk([OK, OK, OK, GO, OK], reused=True, reset=True)
    assert result.said[0].startswith(b"RSET\r\nMAIL FROM:")
    assert result.outcomes == "d"
    stepwise = talk([OK, OK, OK, GO, OK], offered=STEPWISE, reused=True, reset=True)
    assert stepwise.said[:2] == [b"RSET\r\n", b"MAIL FROM:<alice@example.com>\r\n"]


@pytest.mark.parametrize("code", ["502 what", "451 no", "354 no", "100 no"])
def test_a_peer_that_does_not_know_rset(code: str) -> None:
    """The job is innocent: it goes over a fresh connection."""
    result = talk([code], offered=STEPWISE, reused=True, reset=True)
    assert Kind.FRESH is result.transaction.verdict.kind
    assert result.transaction.broken
    assert result.job.results == {}


# --- too many recipients


@pytest.mark.parametrize("code", ["452 4.5.3 too many", "552 5.5.3 too many"])
def test_the_rest_at_once(code: str) -> None:
    """452 or 552 after a 250: the rest go in another transaction on the same connection."""
    result = talk([OK, OK, code, OK, code, GO, OK], job(*people(4)))
    assert not result.done
    assert b"RCPT TO:<r1@example.org>\r\nRCPT TO:<r3@example.org>\r\nDATA\r\n" in result.said[-1]
    assert b"RSET" not in result.said[-1]
    result.hear(OK, OK, "550 b", GO, "250 two")
    assert (result.done, result.outcomes, result.elsewhere) == (True, "dddF", [])


def test_one_recipient_a_transaction() -> None:
    """A peer that takes one at a time gets one at a time, and the last word on the last is final."""
    lines: list[Line] = [OK, OK, "452 a", "452 b", GO, OK, OK, OK, "452 c", GO, OK, OK, "452 d", NO_DATA]
    result = talk(lines, job(*people(3)))
    assert (result.done, result.outcomes, result.elsewhere) == (True, "ddD", [2])


def test_the_rest_after_a_refusal_of_the_content() -> None:
    """The rest are asked for even when the first part was refused; RSET clears what DATA left open."""
    result = talk([OK, OK, "452 a", "451 no data now"], job(*people(2)))
    assert result.said[-1].startswith(b"RSET\r\nMAIL")
    result.hear(OK, OK, OK, GO, OK)
    assert (result.done, result.outcomes, result.elsewhere) == (True, "Dd", [])


def test_the_rest_when_the_connection_ends() -> None:
    """They keep their 452 and may be tried elsewhere; the accepted ones are ambiguous."""
    result = talk([OK, OK, "452 4.5.3 a", GO, RESET], job(*people(2)))
    assert (result.outcomes, result.elsewhere) == ("AD", [1])
    assert Reply(452, "4.5.3", "a") == result.job.results[1].reply


def test_more_than_a_hundred() -> None:
    """250 recipients are three transactions (RFC 5321 4.5.3.1.8)."""
    lines: list[Line] = []
    for number in (100, 100, 50):
        lines += [OK] * (1 + number) + [GO, OK]
    result = talk(lines, job(*people(250)))
    assert [said.count(b"RCPT") for said in result.said if said != CONTENT] == [BATCH, BATCH, 50]
    assert (result.done, result.outcomes) == (True, "d" * 250)


@pytest.mark.parametrize(
    ("lines", "outcomes", "elsewhere"),
    [
        (["550 a", *[NO_MAIL] * 101], "F" * 150, []),
        (["451 a", *[NO_MAIL] * 101], "D" * 150, list(range(150))),
        (["421 a"], "D" * 150, list(range(150))),
        ([*[OK] * 101, GO, EOF], "D" * 150, list(range(100, 150))),
        ([*[OK] * 101, GO, RESET], "A" * 100 + "D" * 50, list(range(100, 150))),
        ([*[OK] * 101, "421 a"], "D" * 150, list(range(100, 150))),
    ],
)
def test_the_second_hundred(lines: list[Line], outcomes: str, elsewhere: list[int]) -> None:
    """MAIL refused speaks of all; a cut says nothing of those not yet named: deferred, not ambiguous."""
    result = talk(lines, job(*people(150)))
    assert (True, outcomes, elsewhere) == (result.done, result.outcomes, result.elsewhere)


def test_todo_is_what_is_sent() -> None:
    """At the second host only those it may have."""
    work = job(*people(4), todo=[1, 3])
    result = talk([OK, OK, "550 a", GO, OK], work)
    assert b"r0@" not in result.said[0] and b"r3@" in result.said[0]
    assert result.outcomes == "-d-F"
