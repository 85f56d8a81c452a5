"""Places are short: who gives way, and to whom (promise 7)."""

from __future__ import annotations

import pytest
from fakes.front import Bench

from relay.front import admission as bounds
from relay.front import states
from relay.front.admission import Admission
from relay.front.channel import PRESSED_AGE, PRESSED_TIME, Channel

MESSAGE = b"Subject: x\r\n\r\nbody\r\n.\r\n"
GIVES_WAY = "421 4.7.0 too many sessions, this one has to give way"


def places(number: int) -> Admission[Channel]:
    return Admission(number, 100, give_way=Channel.give_way)


def newcomer(admission: Admission[Channel], address: str = "127.0.0.99") -> str:
    return Bench(address=address, admission=admission).greeting[0][:9]


def test_an_idle_session_gives_its_place() -> None:
    """When every place is taken, after PRESSED_TIME without an octet; the client is told why."""
    admission = places(2)
    idle, busy = (Bench(address=f"127.0.0.{n}", admission=admission) for n in (1, 2))
    assert newcomer(admission) == "421 4.7.0"
    for bench in (idle, busy):
        bench.loop.now += PRESSED_TIME - 1
    assert newcomer(admission) == "421 4.7.0"
    busy.send(b"NOOP\r\n")
    for bench in (idle, busy):
        bench.loop.now += 1
    assert newcomer(admission) == "220 relay"
    assert idle.transport.take() == [GIVES_WAY] and idle.transport.closed and idle.events.gave_way == 1
    assert not busy.transport.closed and len(admission) == 2


def test_whoever_only_talks_gives_way_in_the_end() -> None:
    """Commands without a message are worth a place for PRESSED_AGE; a message renews it."""
    admission = places(2)
    working, talking = (Bench(address=f"127.0.0.{n}", admission=admission) for n in (1, 2))
    for _ in range(int(PRESSED_AGE / 5)):
        assert newcomer(admission) == "421 4.7.0"
        for bench in (talking, working):
            bench.loop.now += 5
            bench.send(b"NOOP\r\n")
        working.begin()
        working.send(MESSAGE)
        working.queue.commit()
    assert newcomer(admission) == "220 relay"
    assert talking.transport.closed and not working.transport.closed


def test_content_has_to_flow() -> None:
    """A trickle into DATA gives way; a slow upload above the minimum rate does not. Nothing of it is left."""
    for octets, survives in ((10, False), (2000, True)):
        admission = places(1)
        bench = Bench(admission=admission)
        bench.begin()
        for _ in range(5):
            bench.loop.now += 5
            bench.send(b"x" * octets)
        assert newcomer(admission) == ("421 4.7.0" if survives else "220 relay")
        assert bench.transport.closed is not survives
        assert survives or (bench.queue.leftovers == [] and bench.events.rejections[-1][2] == "timeout")


def test_what_waits_for_us_keeps_its_place() -> None:
    """A commit under way, and content that the spool is behind with, however long they take."""
    committing, spooling = places(1), places(1)
    first, second = Bench(admission=committing), Bench(admission=spooling)
    first.queue.held = True
    first.begin()
    first.send(MESSAGE)
    second.queue.slow = True
    second.begin()
    while second.transport.reading:
        second.send(b"x" * 70_000 + b"\r\n")
    for bench, admission in ((first, committing), (second, spooling)):
        bench.loop.now += 10 * PRESSED_AGE
        assert newcomer(admission) == "421 4.7.0" and not bench.transport.closed


def test_a_client_that_does_not_read_is_cut() -> None:
    admission = places(1)
    bench = Bench(admission=admission)
    bench.session.pause_writing()
    bench.loop.now += PRESSED_TIME
    assert newcomer(admission) == "220 relay"
    assert bench.transport.aborted


@pytest.mark.parametrize("state", [states.HANDSHAKE, states.PROXY])
def test_who_has_not_even_begun_is_cut(state: int) -> None:
    admission = places(1)
    bench = Bench(admission=admission)
    bench.session.state = state
    bench.loop.now += PRESSED_TIME
    assert newcomer(admission) == "220 relay"
    assert bench.transport.closed and bench.transport.take() == []


def test_a_known_client_displaces_a_stranger_at_once() -> None:
    """Whose message was accepted gets in however young the strangers are; but no known client gives way to
    another, and nobody is cut who hands over a message."""
    admission = places(2)
    known = Bench(address="127.0.0.7", admission=admission)
    known.begin()
    known.send(MESSAGE)
    known.queue.commit()
    known.transport.lose()
    stranger, sending = (Bench(address=f"127.0.1.{n}", admission=admission) for n in (1, 2))
    sending.begin()
    assert newcomer(admission) == "421 4.7.0"
    assert newcomer(admission, "127.0.0.7") == "220 relay"
    assert stranger.transport.take() == [GIVES_WAY] and not sending.transport.closed
    assert newcomer(admission, "127.0.0.7") == "421 4.7.0"


def test_pressure_begins_before_the_last_place_is_taken() -> None:
    """From CROWDED on idle sessions end by themselves; below it nobody is hurried."""
    for others, ends in ((7, False), (8, True)):
        admission = places(10)
        idle = Bench(address="127.0.0.1", admission=admission)
        _kept = [Bench(address=f"127.0.0.{n + 2}", admission=admission) for n in range(others)]
        idle.loop.advance(40)
        assert idle.transport.closed is ends, others


def test_a_newcomer_costs_the_same_whoever_waits() -> None:
    """At most LOOKS sessions are looked at, and others the next time."""
    looked: list[int] = []

    def stays(session: int, at_once: bool) -> bool:
        looked.append(session)
        return False

    admission: Admission[int] = Admission(100, 100, 1000, stays)
    assert {admission.admit(number, "127.0.0.1") for number in range(100)} == {""}
    for number in range(1, 4):
        assert admission.admit(1000, "127.0.0.2") == "sessions"
        assert looked == list(range(number * bounds.LOOKS))


def test_the_number_is_bounded_also_while_sessions_leave() -> None:
    """Who was told to go and does not counts up to LEAVING; then newcomers are turned away."""
    admission: Admission[int] = Admission(1000, 10_000, 9999, lambda session, at_once: True)
    answers = [admission.admit(number, "127.0.0.1") for number in range(2000)]
    assert answers == [""] * (1000 + bounds.LEAVING) + ["sessions"] * (1000 - bounds.LEAVING)
    assert len(admission) == 1000 + bounds.LEAVING
    for session in admission.all():
        admission.release(session)
    again = [admission.admit(number, "127.0.0.1") for number in range(2000)]
    assert again == answers


def test_few_known_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    asked: list[bool] = []

    def stays(session: int, at_once: bool) -> bool:
        asked.append(at_once)
        return False

    monkeypatch.setattr(bounds, "KNOWN", 2)
    admission: Admission[int] = Admission(1, 1, 1000, stays)
    for number in (1, 2, 1, 3):
        admission.vouch(f"127.0.0.{number}")
    assert admission.admit(0, "127.0.1.1") == ""
    for number in (1, 2, 3):
        admission.admit(number, f"127.0.0.{number}")
    assert asked == [True, False, True]
