"""The checker itself: a correct history passes, and each rule has histories that break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from faults import history
from faults.checker import check, main
from faults.history import Arrival, Fault, History, Notice, Removal, Sent, Waiting
from faults.letter import letter, read_arrival, read_notice

A, B, C = "ok.0.L@a.example", "never.1.L@b.example", "later.2.L@c.example"
LETTER = Sent("L", "d1", "app.L@sender.example", (A, B, C), (), 250, "q1", 1.0)
ARRIVAL = Arrival("L", "q1", (A,), "d1", 2.0)
NOTICE = Notice("L", "n1", (B,), at=3.0)
WAITING = Waiting("L", "q1", (C,), "deferred")
KILL = Fault("kill -9", 2.5, ("q1",), 1)
LATE = Fault("kill -9", 2.6, (), 1)
ROT = Fault("rot", corrupts=True)


def right() -> History:
    """Three recipients with three fates; a second letter that nobody answered, there all the same."""
    unanswered = replace(LETTER, id="M", digest="d2", recipients=("ok.0.M@a.example",), code=0, queue_id="")
    return History(
        sent={"L": LETTER, "M": unanswered},
        arrivals=[ARRIVAL, Arrival("M", "q2", ("ok.0.M@a.example",), "d2", 2.0)],
        notices=[NOTICE],
        waiting=[WAITING],
    )


def test_a_correct_history_passes() -> None:
    findings = check(right())
    assert findings.clean, str(findings)
    expected = {"accepted": 3, "delivered": 1, "bounced": 1, "queued": 1, "letters": 2, "unanswered": 1}
    assert expected == {name: findings.figures[name] for name in expected}


@pytest.mark.parametrize(
    "change",
    [
        lambda h: (h.arrivals.append(ARRIVAL), h.faults.append(KILL)),
        lambda h: (h.arrivals.append(replace(ARRIVAL, recipients=(A, C))), h.faults.append(KILL)),
        lambda h: (h.notices.append(NOTICE), h.faults.append(replace(KILL, in_flight=("n1",)))),
        lambda h: (h.arrivals.append(ARRIVAL), h.faults.extend([replace(KILL, counted=0), LATE])),
        lambda h: (h.arrivals.append(ARRIVAL), h.faults.append(replace(KILL, in_flight=None, counted=4))),
        lambda h: (h.waiting.clear(), h.removals.append(Removal("q1"))),
        lambda h: h.removals.append(Removal("q1")),
        lambda h: h.sent.update(M=replace(h.sent["M"], code=451)),
        lambda h: (h.waiting.append(replace(WAITING, state="quarantine")), h.faults.append(ROT)),
    ],
    ids=[
        "repeated, in flight at the fault",
        "repeated and still queued, in flight at the fault",
        "the bounce repeated, in flight at the fault",
        "repeated, counted by the second start after it",
        "repeated, the leases not known",
        "removed by an operator",
        "a drop that came too late for two of three",
        "answered 4xx and delivered",
        "quarantine after damage",
    ],
)  # fmt: skip
def test_what_is_allowed(change: Callable[[History], object]) -> None:
    made = right()
    change(made)
    assert check(made).clean, str(check(made))


@pytest.mark.parametrize(
    ("rule", "text", "change"),
    [
        (1, "lost", lambda h: h.arrivals.pop(0)),
        (1, "lost", lambda h: h.notices.clear()),
        (1, "lost", lambda h: h.waiting.clear()),
        (1, "delivered and bounced", lambda h: h.notices.append(replace(NOTICE, recipients=(A,)))),
        (1, "delivered and queued", lambda h: h.waiting.append(replace(WAITING, recipients=(A,)))),
        (1, "bounced by 2 notices", lambda h: h.notices.append(replace(NOTICE, queue_id="n2"))),
        (2, "altered", lambda h: h.arrivals.append(replace(h.arrivals.pop(0), digest="d9"))),
        (3, "although answered 554", lambda h: h.sent.update(M=replace(h.sent["M"], code=554))),
        (3, "recipient was refused", lambda h: h.sent.update(
            M=replace(h.sent["M"], recipients=(), refused=("ok.0.M@a.example",)))),
        (4, "repeated 1 times, in flight at 0", lambda h: h.arrivals.append(ARRIVAL)),
        (4, "repeated 2 times, in flight at 1", lambda h: (
            h.arrivals.extend([ARRIVAL] * 2),
            h.faults.append(replace(KILL, in_flight=("q1", "q7"), counted=2)))),
        (4, "1 repeated, the metric counted 0", lambda h: (
            h.arrivals.append(ARRIVAL), h.faults.append(replace(KILL, counted=0)))),
        (4, "the metric counted 2, in flight were 1", lambda h: h.faults.append(replace(KILL, counted=2))),
        (4, "in flight were 2, the metric counted 1", lambda h: h.faults.append(
            replace(KILL, in_flight=("q1", "q7"), counted=1))),
        (4, "queued 2 times", lambda h: h.arrivals.append(replace(ARRIVAL, recipients=(C,), queue_id="q5"))),
        (4, "repeated 1 times", lambda h: h.notices.append(NOTICE)),
        (5, "never sent", lambda h: h.arrivals.append(Arrival("X", "q9", ("ok.0.X@a.example",), "d"))),
        (5, "never sent there", lambda h: h.arrivals.append(replace(ARRIVAL, recipients=("x@a.example",)))),
        (5, "bounced but never sent", lambda h: h.notices.append(Notice("X", "n9", ("x@a.example",)))),
        (6, "in quarantine", lambda h: h.waiting.append(replace(h.waiting.pop(), state="quarantine"))),
    ],
)  # fmt: skip
def test_each_rule_can_be_broken(rule: int, text: str, change: Callable[[History], object]) -> None:
    """The violation says its rule and what is known about the letter."""
    made = right()
    change(made)
    findings = check(made)
    assert rule in findings.rules(), str(findings)
    assert any(text in violation.text for violation in findings.violations), str(findings)
    assert all(violation.history for violation in findings.violations if violation.id in "LMX")
    assert not findings.clean


def test_the_report_is_for_people_and_the_record_for_programs(tmp_path: Path) -> None:
    """A lost letter is told with its history; the record is read again and says the same."""
    made = right()
    made.arrivals.clear()
    report = str(check(made))
    assert f"rule 1: L: {A}: lost" in report
    assert "1.000 sent: Sent(id='L'" in report
    file = tmp_path / "history.json"
    file.write_text(json.dumps(made.to_json()))
    assert History.from_json(json.loads(file.read_text())) == made
    assert main(file) == 1
    file.write_text(json.dumps(right().to_json()))
    assert main(file) == 0


def test_logs_are_read_up_to_a_line_cut_short(tmp_path: Path) -> None:
    """The last that was written about a letter counts."""
    log = tmp_path / "sent"
    history.append(log, replace(LETTER, code=0))
    history.append(log, LETTER)
    with log.open("a") as file:
        file.write('{"id": "M", "dig')
    assert history.by_id(history.read(log, Sent)) == {"L": LETTER}
    assert list(history.read(tmp_path / "nothing", Sent)) == []


RECEIVED = b"Received: from load ([127.0.0.1])\r\n\tby relay.example (relay) with ESMTP id 0abc;\r\n\tnow\r\n"


def test_an_arrival_is_hashed_below_our_trace_header() -> None:
    """One octet more or less is another hash; without our header there is no queue id."""
    made = letter("L", Random(1), ("ok", "later"), 500)
    came = read_arrival(RECEIVED + made.content, made.sender, made.recipients, 1.0)
    assert came == Arrival("L", "0abc", made.recipients, made.digest, 1.0)
    assert read_arrival(RECEIVED + made.content + b"x", "s", (), 1.0) != replace(came, recipients=())
    bare = read_arrival(made.content, made.sender, made.recipients, 1.0)
    assert isinstance(bare, Arrival)
    assert (bare.queue_id, bare.digest) == ("", made.digest)


def test_the_wire_form_doubles_dots() -> None:
    made = letter("L", Random(1))
    assert b"\r\n.a line" in made.content
    assert b"\r\n..a line" in made.wire
    assert made.wire.endswith(b"\r\n.\r\n")


def test_a_notice_says_whom_it_gives_up() -> None:
    """Read from a report as the relay writes it; a delay is no notice of that."""
    report = (
        b"From: MAILER-DAEMON@relay.example\r\nMessage-ID: <q1.77@relay.example>\r\n"
        b'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="x"\r\n\r\n'
        b"--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; relay.example\r\n\r\n"
        b"Final-Recipient: rfc822; never.1.L@b.example\r\nAction: failed\r\n\r\n"
        b"Final-Recipient: rfc822; later.2.L@c.example\r\nAction: delayed\r\n\r\n"
        b"--x\r\nContent-Type: text/rfc822-headers\r\n\r\nX-Letter: L\r\n\r\n--x--\r\n"
    )
    expected = Notice("L", "q1.77", ("never.1.L@b.example",), at=5.0)
    assert read_arrival(report, "", ("app.L@sender.example",), 5.0) == expected
    assert read_notice(report, waiting=True) == replace(expected, at=0.0, waiting=True)
