"""The verdict table, row by row: what an answer means for everybody concerned."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.delivery import verdict
from relay.delivery.verdict import Ruling, Trouble
from relay.observe.events import SUSPEND_REASONS
from relay.observe.labels import FAULT_REASONS
from relay.outcome import STAGES, Deferred, Delivered, Failed, Outcome
from relay.reply import Reply

HOST = "mx.example.net[192.0.2.1]:25"


@dataclass(frozen=True)
class Expected:
    """What a row says: D or F, enhanced code, other hosts, lane, end of the connection, ambiguous."""

    fate: type[Deferred | Failed]
    enhanced: str
    elsewhere: bool = False
    lane: str = ""
    ambiguous: bool = False


D, F = Deferred, Failed
NEXT = True

REPLIES = {  # (stage, code, text) -> expected
    ("greeting", 421, "busy"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("greeting", 450, "busy"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("greeting", 554, "no service"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("ehlo", 450, "not now"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("ehlo", 502, "what?"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("starttls", 454, "no TLS now"): Expected(D, "4.7.4", NEXT, "tls"),
    ("starttls", 501, "no"): Expected(D, "4.7.4", NEXT, "tls"),
    ("auth", 454, "later"): Expected(D, "4.7.0", NEXT, "auth"),
    ("auth", 535, "wrong"): Expected(D, "4.7.8", NEXT, "auth"),
    ("auth", 504, "unknown mechanism"): Expected(D, "4.7.8", NEXT, "auth"),
    ("mail", 530, "5.7.0 log in first"): Expected(D, "4.7.8", NEXT, "auth"),
    ("rcpt", 534, "too weak"): Expected(D, "4.7.8", NEXT, "auth"),
    ("data", 535, "wrong"): Expected(D, "4.7.8", NEXT, "auth"),
    ("dot", 538, "encrypt first"): Expected(D, "4.7.8", NEXT, "auth"),
    ("mail", 451, "later"): Expected(D, "4.0.0", NEXT),
    ("mail", 552, "5.3.4 too big"): Expected(F, "5.3.4"),
    ("mail", 550, "no"): Expected(F, "5.0.0"),
    ("rcpt", 450, "4.2.0 greylisted"): Expected(D, "4.2.0", NEXT),
    ("rcpt", 452, "full"): Expected(D, "4.0.0", NEXT),
    ("rcpt", 550, "5.1.1 unknown"): Expected(F, "5.1.1"),
    ("rcpt", 552, "5.2.2 full"): Expected(F, "5.2.2"),
    ("data", 451, "later"): Expected(D, "4.0.0"),
    ("data", 554, "no"): Expected(F, "5.0.0"),
    ("dot", 452, "4.3.1 no space"): Expected(D, "4.3.1"),
    ("dot", 554, "5.7.1 spam"): Expected(F, "5.7.1"),
    ("mail", 421, "4.3.2 closing"): Expected(D, "4.3.2", NEXT),
    ("rcpt", 421, "closing"): Expected(D, "4.0.0", NEXT),
    ("data", 421, "closing"): Expected(D, "4.0.0"),
    ("dot", 421, "closing"): Expected(D, "4.0.0"),
    # the enhanced code of a peer counts only when its class is that of the verdict
    ("rcpt", 450, "5.1.1 unknown"): Expected(D, "4.0.0", NEXT),
    ("rcpt", 550, "4.2.0 greylisted"): Expected(F, "5.0.0"),
    ("greeting", 554, "5.7.1 go away"): Expected(D, "4.3.2", NEXT, "greeting"),
    # a code outside 2-5, or in the wrong place, is as 4yz there, and the connection is closed
    ("greeting", 250, "hello"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("ehlo", 199, "hello"): Expected(D, "4.3.2", NEXT, "greeting"),
    ("starttls", 600, "hello"): Expected(D, "4.7.4", NEXT, "tls"),
    ("auth", 700, "hello"): Expected(D, "4.7.0", NEXT, "auth"),
    ("mail", 354, "go ahead"): Expected(D, "4.5.0", NEXT),
    ("rcpt", 650, "what"): Expected(D, "4.5.0", NEXT),
    ("data", 250, "thanks"): Expected(D, "4.5.0"),
    ("dot", 354, "more"): Expected(D, "4.5.0", ambiguous=True),
}

TROUBLES = {  # (stage, trouble) -> expected
    ("connect", Trouble.REFUSED): Expected(D, "4.4.1", NEXT, "connect"),
    ("connect", Trouble.TIMEOUT): Expected(D, "4.4.1", NEXT, "connect"),
    ("greeting", Trouble.EOF): Expected(D, "4.4.1", NEXT, "greeting"),
    ("greeting", Trouble.TIMEOUT): Expected(D, "4.4.1", NEXT, "greeting"),
    ("ehlo", Trouble.RESET): Expected(D, "4.4.1", NEXT, "greeting"),
    ("starttls", Trouble.TLS): Expected(D, "4.7.5", NEXT, "tls"),
    ("auth", Trouble.EOF): Expected(D, "4.7.0", NEXT, "auth"),
    ("mail", Trouble.EOF): Expected(D, "4.4.2", NEXT),
    ("rcpt", Trouble.TIMEOUT): Expected(D, "4.4.2", NEXT),
    ("data", Trouble.RESET): Expected(D, "4.4.2"),
    ("dot", Trouble.EOF): Expected(D, "4.4.2", ambiguous=True),
    ("dot", Trouble.TIMEOUT): Expected(D, "4.4.2", ambiguous=True),
    ("dot", Trouble.RESET): Expected(D, "4.4.2", ambiguous=True),
    ("greeting", Trouble.NONSENSE): Expected(D, "4.3.2", NEXT, "greeting"),
    ("mail", Trouble.NONSENSE): Expected(D, "4.5.0", NEXT),
    ("data", Trouble.NONSENSE): Expected(D, "4.5.0"),
}


def facts(ruling: Ruling) -> Expected:
    """A ruling in the shape of a row."""
    outcome = ruling.outcome
    assert isinstance(outcome, Deferred | Failed)
    ambiguous = isinstance(outcome, Deferred) and outcome.ambiguous
    return Expected(type(outcome), outcome.reply.enhanced, ruling.elsewhere, ruling.lane, ambiguous)


@pytest.mark.parametrize(("stage", "code", "text"), REPLIES)
def test_reply(stage: str, code: int, text: str) -> None:
    """Rows connect to dot, the row 53x and the two last ones: what a reply means at a stage."""
    ruling = verdict.on_reply(stage, code, text, HOST)
    assert REPLIES[stage, code, text] == facts(ruling)
    assert isinstance(ruling.outcome, Deferred | Failed)
    assert (HOST, stage) == (ruling.outcome.host, ruling.outcome.stage)


@pytest.mark.parametrize(("stage", "trouble"), TROUBLES)
def test_trouble(stage: str, trouble: Trouble) -> None:
    """No reply at all: EOF, time-out, RST, a failed handshake, octets that are no reply."""
    ruling = verdict.on_trouble(stage, trouble, "the line is dead", HOST)
    assert TROUBLES[stage, trouble] == facts(ruling)
    assert (ruling.outcome.reply.code, ruling.outcome.reply.text) == (0, "the line is dead")


@pytest.mark.parametrize(
    ("capability", "enhanced"), [("8BITMIME", "5.6.3"), ("SMTPUTF8", "5.6.7"), ("SIZE", "5.3.4")]
)
def test_lacking(capability: verdict.Capability, enhanced: str) -> None:
    """Row capability: Failed, but another host may offer it."""
    assert Expected(F, enhanced, NEXT) == facts(verdict.on_lacking(capability, "no", HOST))


def test_too_many_recipients() -> None:
    """452 and 552 after a 250 defer until the next transaction has asked again."""
    assert Expected(D, "4.5.3", NEXT) == facts(verdict.on_too_many(452, "too many", HOST))
    assert Expected(D, "4.5.3", NEXT) == facts(verdict.on_too_many(552, "5.5.3 too many", HOST))


def test_starttls_not_offered() -> None:
    """Where it is required, it is as if refused."""
    assert Expected(D, "4.7.4", NEXT, "tls") == facts(verdict.on_no_starttls("not offered", HOST))


OWN: dict[verdict.Own, tuple[str, Expected]] = {
    "level": ("auth", Expected(D, "4.7.11", NEXT, "tls")),
    "mechanism": ("auth", Expected(D, "4.7.4", NEXT, "auth")),
    "secret": ("auth", Expected(D, "4.7.8", NEXT, "auth")),
    "token": ("auth", Expected(D, "4.7.8", NEXT, "token")),
    "no token now": ("auth", Expected(D, "4.7.0", NEXT, "token")),
    "ca_file": ("starttls", Expected(D, "4.7.5", NEXT, "tls")),
}


@pytest.mark.parametrize("what", OWN)
def test_what_keeps_us_from_logging_in(what: verdict.Own) -> None:
    """Faults of the route, all but a token endpoint that has no answer now."""
    stage, ruling = verdict.on_own(what, "why", HOST)
    assert OWN[what] == (stage, facts(ruling))
    assert ruling.fault is (what != "no token now")


def test_faults_of_the_route() -> None:
    """Promise 5: what no waiting mends is marked so, and nothing else is."""
    marked = {place for place, row in verdict.REPLIES.items() if row.fault}
    assert marked == {("starttls", 4), ("starttls", 5), ("auth", 4), ("auth", 5)}
    assert {stage for stage, row in verdict.TROUBLE.items() if row.fault} == {"starttls", "auth"}
    assert [place for place, row in verdict.REPLIES.items() if row.passing] == [("auth", 4)]
    said = verdict.on_reply("auth", 535, "5.7.8 wrong").outcome.reply
    assert (said.enhanced, said.line) == ("4.7.8", "535 5.7.8 wrong")
    assert verdict.on_reply("mail", 530, "no").fault and not verdict.on_reply("mail", 550, "no").fault


def test_our_trouble() -> None:
    """What we cannot say or read is our trouble: deferred, and no other host can help (promise 2)."""
    ruling = verdict.on_our_trouble("data", "no file descriptor")
    assert facts(ruling) == Expected(D, "4.3.0")


def test_age() -> None:
    """Row age: Failed with the last reply, 4.4.7 when there is none."""
    last = Reply(451, "4.3.0", "later")
    assert Failed(last, "", "age") == verdict.on_age(last)
    assert verdict.on_age(None).reply.enhanced == "4.4.7"


def test_delivered() -> None:
    """2yz to the dot, with or without an enhanced code of its own."""
    assert Delivered(Reply(250, "2.6.0", "queued"), HOST, False) == verdict.delivered(
        250, "2.6.0 queued", HOST, False
    )
    assert Delivered(Reply(250, "2.0.0", "queued"), HOST, True) == verdict.delivered(
        250, "queued", HOST, True
    )


@pytest.mark.parametrize(
    ("text", "enhanced", "rest"),
    [
        ("5.1.1 unknown", "5.1.1", "unknown"),
        ("5.1.1", "5.1.1", ""),
        ("5.1.1 one\n5.1.1 two", "5.1.1", "one\ntwo"),
        ("5.1.1 one\n5.7.1 two", "5.1.1", "one\n5.7.1 two"),
        ("5.1.10 null MX", "5.1.10", "null MX"),
        ("5.1.1unknown", "5.0.0", "5.1.1unknown"),
        ("5.1.1.1 unknown", "5.0.0", "5.1.1.1 unknown"),
        ("5.1.1234 unknown", "5.0.0", "5.1.1234 unknown"),
        ("5.٣.1 unknown", "5.0.0", "5.٣.1 unknown"),
        ("2.1.1 unknown", "5.0.0", "2.1.1 unknown"),
        ("", "5.0.0", ""),
    ],
)
def test_enhanced_code_of_a_reply(text: str, enhanced: str, rest: str) -> None:
    """Taken out of the text when it is one and its class fits; else the text stays whole (RFC 3463, 2034)."""
    assert Reply(550, enhanced, rest) == verdict.reply_with(550, text, "5.0.0")


LATER = Deferred(Reply(451, "4.3.0", "later"), "first", "rcpt")
NO_SIZE = Failed(Reply(0, "5.3.4", "too big"), "second", "capability")
UNKNOWN = Failed(Reply(550, "5.1.1", "unknown"), "second", "rcpt")
DOWN = Deferred(Reply(0, "4.4.1", "refused"), "second", "connect")


@pytest.mark.parametrize(
    ("earlier", "later", "stands"),
    [
        (None, NO_SIZE, NO_SIZE),
        (LATER, NO_SIZE, LATER),  # the first host may offer it
        (NO_SIZE, NO_SIZE, NO_SIZE),  # no host offers it
        (NO_SIZE, DOWN, DOWN),  # the second may offer it
        (LATER, UNKNOWN, UNKNOWN),
        (LATER, DOWN, DOWN),
    ],
)
def test_two_hosts(earlier: Outcome | None, later: Outcome, stands: Outcome) -> None:
    """Row capability: failed only when no host offers it; else the later word stands."""
    assert stands == verdict.combine(earlier, later)


def test_words_are_known() -> None:
    """Stages are those of outcome.py, reasons those the metrics know."""
    rows = {stage: row for (stage, _), row in verdict.REPLIES.items()} | verdict.TROUBLE | verdict.NONSENSE
    assert set(rows) <= set(STAGES)
    everything = [*verdict.REPLIES.values(), *verdict.TROUBLE.values(), *verdict.NONSENSE.values()]
    everything += [*verdict.LACKING.values(), *verdict.OWN.values(), verdict.ROUTE_FAULT, verdict.NO_STARTTLS]
    assert {row.lane for row in everything if row.fault} == set(FAULT_REASONS)
    assert {row.lane for row in everything} - {""} <= set(SUSPEND_REASONS)
    assert {row.enhanced[0] for row in everything} == {"4", "5"}


def test_only_named_rows_are_permanent() -> None:
    """Promise 5: unknown is temporary. No code fails a recipient but 5yz from MAIL on, 53x excepted."""
    for stage in STAGES[1:11]:
        if stage in ("connect", "capability"):
            continue
        for code in range(1000):
            failed = isinstance(verdict.on_reply(stage, code, "").outcome, Failed)
            lawful = (
                stage in ("mail", "rcpt", "data", "dot")
                and 500 <= code <= 599
                and code not in (530, 534, 535, 538)
            )
            assert lawful == failed, (stage, code)
