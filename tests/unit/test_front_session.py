"""The session over a fake transport, loop and queue: replies in one write, pausing, time-outs, trouble of
ours."""

from __future__ import annotations

import pytest
from fakes.front import Bench
from fakes.memory_queue import PENDING_LIMIT

from relay.front import channel, session
from relay.front.session import LINE_LIMIT

MESSAGE = b"Subject: x\r\n\r\nbody\r\n.\r\n"


def test_pipelined_commands_are_answered_in_one_write() -> None:
    """RFC 2920: one write for a whole group, the message's reply and the next group together."""
    bench = Bench()
    bench.session.data_received(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n")
    assert len(bench.transport.writes) == 1
    assert [line[:3] for line in bench.transport.take()] == ["250"] * 9 + ["354"]
    bench.session.data_received(MESSAGE + b"MAIL FROM:<a@b.example>\r\nQUIT\r\n")
    assert len(bench.transport.writes) == 1
    assert [line[:3] for line in bench.transport.take()] == ["250", "250", "221"]


def test_every_reply_has_an_enhanced_code_of_its_class() -> None:
    """RFC 2034 section 4: all but the greeting, HELO, EHLO and 354."""
    bench = Bench({"limits": {"recipients": 1}})
    lines = [
        b"NOOP",
        b"XX",
        b"VRFY",
        b"VRFY a",
        b"EXPN a",
        b"HELP",
        b"MAIL",
        b"HELO c",
        b"MAIL FROM:<a",
        b"RSET x",
    ]
    lines += [b"MAIL FROM:<a@b.example>", b"RCPT TO:<>", b"RCPT TO:<x@y.example>", b"RCPT TO:<z@y.example>"]
    lines += [b"RSET", b"DATA", b"BDAT 1", b"QUIT"]
    replies = [line for line in bench.send(b"\r\n".join([*lines, b""])) if line != "250 relay.example.com"]
    assert len(replies) == len(lines) - 1
    for reply in replies:
        code, enhanced, _ = reply.split(" ", 2)
        assert enhanced[0] == code[0] and enhanced.count(".") == 2, reply


def test_replies_by_octet() -> None:
    """A client that sends one octet at a time gets the same."""
    bench, slow = Bench(), Bench()
    text = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n" + MESSAGE + b"QUIT\r\n"
    quick = bench.send(text)
    octets = [line for octet in text for line in slow.send(bytes((octet,)))]
    assert octets == quick and len(quick) == 12
    assert bench.stored == slow.stored


def test_envelope() -> None:
    """What goes to the queue with the message; 8-bit and UTF-8 only where declared and real."""
    bench = Bench()
    bench.begin(b"MAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=e1")
    bench.send(b"Message-ID: <m@x>\r\n\r\nb\xc3\xb6dy\r\n.\r\n")
    name, envelope, size, recipients = bench.events.receipts[0]
    assert (size, recipients) == (len(bench.stored), 1)
    assert (envelope.eightbit, envelope.smtputf8) == (True, False), "the header is ASCII"
    assert (envelope.ret, envelope.envid, envelope.message_id) == ("HDRS", "e1", "<m@x>")
    assert (envelope.client, envelope.helo, envelope.protocol) == (
        "unknown[127.0.0.1]",
        "client.example",
        "UTF8SMTP",
    )
    assert f"id {name}\r\n" in bench.stored.decode()
    assert bench.queue.accepted[0].message.meta == envelope.pack()

    bench.send(
        b"MAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<\xc3\xb6@y.example>\r\nDATA\r\n.\r\n"
    )
    assert (bench.events.receipts[1][1].eightbit, bench.events.receipts[1][1].smtputf8) == (False, True)
    bench.send(
        b"MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<x@y.example>\r\nDATA\r\nS: \xc3\xb6\r\n\r\n.\r\n"
    )
    assert (bench.events.receipts[2][1].eightbit, bench.events.receipts[2][1].smtputf8) == (False, True)
    bench.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\nS: \xc3\xb6\r\n\r\n.\r\n")
    assert (bench.events.receipts[3][1].eightbit, bench.events.receipts[3][1].smtputf8) == (False, False)


def test_lanes() -> None:
    """One message, its recipients grouped by the route table."""
    bench = Bench()
    bench.begin(b"MAIL FROM:<a@b.example>", b"1@y.example", b"2@z.example", b"3@Y.example")
    bench.send(MESSAGE)
    lanes = bench.queue.accepted[0].message.lanes
    assert {lane: [one.address for one in group] for lane, group in lanes.items()} == {
        "mx:y.example": ["1@y.example", "3@Y.example"],
        "mx:z.example": ["2@z.example"],
    }


def test_no_reply_before_the_commit() -> None:
    """Durable before 250: while the queue commits nothing is said, and what is pipelined waits."""
    bench = Bench()
    bench.queue.held = True
    bench.begin()
    assert bench.send(MESSAGE + b"NOOP\r\n") == []
    assert bench.send(b"NOOP\r\n") == []
    assert bench.events.receipts == []
    bench.queue.commit()
    assert [line[:9] for line in bench.transport.take()] == ["250 2.0.0"] * 3
    assert len(bench.events.receipts) == 1


def test_reading_is_paused_behind_a_commit() -> None:
    """Input that waits is bounded."""
    bench = Bench()
    bench.queue.held = True
    bench.begin()
    bench.send(MESSAGE)
    noops = b"NOOP\r\n" * 1000
    for _ in range(100):
        if not bench.transport.reading:
            break
        bench.send(noops)
    assert not bench.transport.reading
    assert len(bench.session.buffer) <= channel.BUFFER_LIMIT + len(noops)
    bench.queue.commit()
    bench.loop.advance(0)
    assert bench.transport.reading and bench.session.buffer == b""


def test_others_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is pipelined, TURN commands are answered in one go; what waits is bounded (promise 7)."""
    monkeypatch.setattr(session, "JUNK_LIMIT", 10**6)
    bench = Bench()
    asked = 0
    while bench.transport.reading:
        asked += 1000
        assert len(bench.send(b"NOOP\r\n" * 1000)) <= session.TURN
    assert len(bench.session.buffer) <= channel.BUFFER_LIMIT + 6000
    bench.session.eof_received()
    bench.loop.advance(0)
    assert len(bench.transport.take()) == asked - session.TURN and bench.transport.closed


def test_who_does_not_read_gets_no_more_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "JUNK_LIMIT", 10**6)
    bench = Bench()
    bench.send(b"NOOP\r\n" * 1000)
    bench.session.pause_writing()
    bench.loop.advance(0)
    assert bench.transport.take() == [] and not bench.transport.reading
    bench.session.resume_writing()
    bench.loop.advance(0)
    assert len(bench.transport.take()) == 1000 - session.TURN and bench.transport.reading


def test_memory_is_bounded_while_the_spool_is_slow() -> None:
    """Reading stops over PENDING_LIMIT and goes on when the disk has caught up; nothing is lost."""
    bench = Bench()
    bench.queue.slow = True
    bench.begin()
    block, sent = (b"x" * 70 + b"\r\n") * 1000, 0
    for _ in range(100):
        if not bench.transport.reading:
            bench.queue.contents[0].drain()
        assert bench.transport.reading
        bench.send(block)
        sent += len(block)
        assert bench.queue.contents[0].pending <= PENDING_LIMIT + len(block) + 1000
        assert (
            len(bench.session.buffer) + len(bench.session.intake.carry if bench.session.intake else b"") < 10
        )
    bench.send(b".\r\n")
    assert len(bench.content) == sent


def test_half_close_behind_the_dot() -> None:
    """The commit finishes and is answered, then the session ends."""
    bench = Bench()
    bench.queue.held = True
    bench.begin()
    bench.send(MESSAGE + b"NOOP\r\n")
    assert bench.session.eof_received() is True
    assert not bench.transport.closed
    bench.queue.commit()
    assert [line[:9] for line in bench.transport.take()] == ["250 2.0.0"] * 2
    assert bench.transport.closed


def test_vanished_behind_the_dot() -> None:
    """The message stays ours; nobody is written to."""
    bench = Bench()
    bench.queue.held = True
    bench.begin()
    bench.send(MESSAGE)
    bench.transport.lose()
    bench.queue.commit()
    assert len(bench.events.receipts) == 1 and bench.transport.writes == []
    assert bench.queue.leftovers == [] and bench.events.closed == 1 and len(bench.admission) == 0


@pytest.mark.parametrize("eof", [True, False])
def test_vanished_in_data(eof: bool) -> None:
    """Nothing is kept of half a message."""
    bench = Bench()
    bench.begin()
    bench.send(b"Subject: x\r\n\r\nhalf")
    if eof:
        assert not bench.session.eof_received()
    else:
        bench.transport.lose()
    assert bench.queue.leftovers == [] and bench.queue.contents[0].discarded
    assert bench.queue.contents[0].on_drain is None and bench.events.closed == 1


def test_idle_session_ends_at_eof() -> None:
    """No reply, closed."""
    bench = Bench()
    assert bench.session.eof_received() is False
    assert bench.transport.take() == [] and bench.transport.closed


def test_half_close_of_a_client_that_does_not_read() -> None:
    """What it asked before is answered as soon as it reads again, then the session ends."""
    bench = Bench()
    bench.session.pause_writing()
    assert bench.send(b"NOOP\r\nRSET\r\n") == []
    assert bench.session.eof_received() is True
    assert not bench.transport.closed
    bench.session.resume_writing()
    assert bench.transport.take() == ["250 2.0.0 ok", "250 2.0.0 reset"]
    assert bench.transport.closed


def test_over_long_line_cut_before_its_end() -> None:
    """A CR that was read before its LF is not forgotten: the line is too long, not ended by a bare LF."""
    bench = Bench()
    assert bench.send(b"x" * (LINE_LIMIT + 10) + b"\r") == []
    assert bench.send(b"\nNOOP\r\n") == ["500 5.5.2 line too long", "250 2.0.0 ok"]


def test_over_long_line() -> None:
    """500 at its end, bounded memory, the session goes on."""
    bench = Bench()
    assert bench.send(b"NOOP " + b"x" * (LINE_LIMIT - 6) + b"\r\n") == ["250 2.0.0 ok"]
    assert [line[:9] for line in bench.send(b"NOOP " + b"x" * LINE_LIMIT + b"\r\n")] == ["500 5.5.2"]
    for _ in range(1000):
        assert bench.send(b"x" * 1000) == []
        assert len(bench.session.buffer) <= LINE_LIMIT + 1000
    assert [line[:9] for line in bench.send(b"\r\nNOOP\r\n")] == ["500 5.5.2", "250 2.0.0"]


def test_errors_are_forgiven_by_a_message() -> None:
    """Twenty errors end a session, not twenty in its whole life."""
    bench = Bench()
    for _ in range(3):
        bench.send(b"XX\r\n" * 15)
        bench.begin()
        bench.send(MESSAGE)
    assert not bench.transport.closed
    assert bench.send(b"XX\r\n" * 30)[-1].startswith("421 4.7.0")


def test_commands_that_bring_no_message_are_bounded() -> None:
    """JUNK_LIMIT of them, then each is an error; a message that is accepted forgives them."""
    bench = Bench()
    for _ in range(3):
        junk = [b"NOOP", b"RSET", b"EHLO c", b"VRFY x"] * (session.JUNK_LIMIT // 4 - 1)
        assert not any(line.startswith("421") for line in bench.send(b"\r\n".join([*junk, b""])))
        bench.loop.advance(0)
        assert not any(line.startswith("421") for line in bench.transport.take())
        bench.begin()
        assert bench.send(MESSAGE)[-1].startswith("250")
    lines = []
    for _ in range(session.JUNK_LIMIT + session.ERROR_LIMIT):
        lines += bench.send(b"NOOP\r\n")
    assert lines[-1][:9] == "421 4.7.0" and len(lines) == session.JUNK_LIMIT + session.ERROR_LIMIT + 1
    assert bench.transport.closed


def test_a_session_has_no_dictionary() -> None:
    """Its facts are in slots: with a thousand sessions, that is memory and time."""
    bench = Bench()
    bench.begin()
    bench.send(MESSAGE)
    assert vars(bench.session) == {}
