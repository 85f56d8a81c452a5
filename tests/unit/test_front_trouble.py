"""The session in trouble: time-outs, limits, shutdown, errors of the queue, bugs of ours."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from fakes.front import Bench
from fakes.memory_queue import PENDING_LIMIT

from mailqueue.errors import NoSpace, QueueClosed, QueueFailed
from relay.front import channel, commands, states
from relay.front.admission import Admission
from relay.front.channel import Channel
from relay.front.session import Session

MESSAGE = b"Subject: x\r\n\r\nbody\r\n.\r\n"


def test_command_time_out() -> None:
    """421 4.4.2 after COMMAND_TIME without a byte; each byte puts it off."""
    bench = Bench()
    for _ in range(3):
        bench.loop.advance(channel.COMMAND_TIME - 20)
        assert bench.send(b"NOOP\r\n") == ["250 2.0.0 ok"]
    bench.loop.advance(channel.COMMAND_TIME + 30)
    assert [line[:9] for line in bench.transport.take()] == ["421 4.4.2"]
    assert bench.transport.closed and bench.loop.timers == []


def test_data_time_out() -> None:
    """DATA_TIME without a byte: 421, nothing kept."""
    bench = Bench()
    bench.begin()
    bench.send(b"half")
    bench.loop.advance(channel.DATA_TIME - 20)
    assert not bench.transport.closed
    bench.loop.advance(50)
    assert [line[:9] for line in bench.transport.take()] == ["421 4.4.2"]
    assert bench.queue.leftovers == []
    assert [(stage, reason) for stage, _, reason, _, _ in bench.events.rejections] == [("data", "timeout")]


def test_minimum_rate() -> None:
    """A trickle is cut although each octet is in time; a slow honest upload is not."""
    for octets, survives in ((10, False), (2000, True)):
        bench = Bench()
        bench.begin()
        for _ in range(120):
            bench.loop.advance(10)
            if not bench.transport.closed:
                bench.send(b"x" * (octets - 2) + b"\r\n")
        assert bench.transport.closed is not survives
        assert bench.loop.now < 1000 + 120 * 10 + 1


def test_session_time() -> None:
    """However busy it keeps itself, a session ends some day."""
    bench = Bench()
    for _ in range(int(channel.SESSION_TIME / 200) + 1):
        bench.loop.advance(200)
        bench.begin()
        bench.send(b"RSET\r\n" if bench.transport.closed else MESSAGE)
    assert bench.transport.closed
    assert bench.loop.now - 1000 > channel.SESSION_TIME


def test_our_time_is_not_the_clients() -> None:
    """A slow commit or a slow spool never times a client out; afterwards it has its full time again."""
    bench = Bench()
    bench.queue.held = True
    bench.begin()
    bench.send(MESSAGE)
    bench.loop.advance(5000)
    assert not bench.transport.closed
    bench.queue.commit()
    bench.loop.advance(channel.COMMAND_TIME - 20)
    assert not bench.transport.closed

    bench = Bench()
    bench.queue.slow = True
    bench.begin()
    bench.send(b"x" * (PENDING_LIMIT + 100))
    assert not bench.transport.reading
    bench.loop.advance(5000)
    assert not bench.transport.closed
    bench.queue.contents[0].drain()
    bench.loop.advance(channel.DATA_TIME - 20)
    assert not bench.transport.closed


def test_client_that_does_not_read() -> None:
    """Its commands wait, it is not read from, and in the end it is cut."""
    bench = Bench()
    bench.session.pause_writing()
    assert not bench.transport.reading
    assert bench.send(b"NOOP\r\n") == []
    bench.session.resume_writing()
    assert bench.transport.reading
    assert bench.transport.take() == ["250 2.0.0 ok"]
    bench.session.pause_writing()
    bench.loop.advance(channel.COMMAND_TIME + 30)
    assert bench.transport.aborted


def test_last_reply_that_never_leaves() -> None:
    """A transport that cannot flush is cut."""
    bench = Bench()
    bench.transport.stuck = True
    bench.send(b"QUIT\r\n")
    assert bench.transport.closed and not bench.transport.aborted
    bench.loop.advance(channel.CLOSING_TIME + 30)
    assert bench.transport.aborted and bench.events.closed == 1


def test_stop() -> None:
    """Shutdown: idle sessions and those before the final dot at once, those behind it after their reply."""
    idle, sending, committing = Bench(), Bench(), Bench()
    sending.begin()
    sending.send(b"half")
    committing.queue.held = True
    committing.begin()
    committing.send(MESSAGE)
    for bench in (idle, sending, committing):
        bench.session.stop()
    assert [line[:9] for line in idle.transport.take()] == ["421 4.3.2"] and idle.transport.closed
    assert [line[:9] for line in sending.transport.take()] == ["421 4.3.2"] and sending.transport.closed
    assert sending.queue.leftovers == []
    assert committing.transport.take() == [] and not committing.transport.closed
    committing.queue.commit()
    assert [line[:9] for line in committing.transport.take()] == ["250 2.0.0", "421 4.3.2"]
    assert committing.transport.closed


def test_refused_sessions() -> None:
    """Over the limits: 421 4.7.0 as the greeting, then closed, and not counted."""
    admission: Admission[Channel] = Admission(2, 1)
    first = Bench(admission=admission)
    assert first.greeting == ["220 relay.example.com ESMTP"]
    second = Bench(admission=admission, address="::ffff:127.0.0.1")
    assert second.greeting[0].startswith("421 4.7.0") and second.transport.closed
    assert second.events.refusals == ["sessions_per_client"]
    third, fourth = (
        Bench(admission=admission, address="192.0.2.1"),
        Bench(admission=admission, address="192.0.2.2"),
    )
    assert third.greeting[0].startswith("220") and fourth.events.refusals == ["sessions"]
    assert fourth.events.opened == fourth.events.closed == 0
    first.transport.lose()
    assert Bench(admission=admission).greeting[0].startswith("220")


def test_bug_in_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """451 4.3.0, one event, and the session goes on."""
    bench = Bench()
    error = RuntimeError("bug")
    cast(Any, bench.service.table).error = error
    bench.send(b"HELO c\r\nMAIL FROM:<a@b.example>\r\n")
    assert [line[:9] for line in bench.send(b"RCPT TO:<x@y.example>\r\nNOOP\r\n")] == [
        "451 4.3.0",
        "250 2.0.0",
    ]
    assert bench.events.bugs == [error]


@pytest.mark.parametrize("refused", [b"RCPT TO:<a>b@c>\r\n", b""])
def test_bug_with_the_only_recipient(refused: bytes) -> None:
    """Promise 2: our trouble with a recipient makes the DATA behind it temporary as well, whatever else was
    refused."""
    bench = Bench()
    cast(Any, bench.service.table).error = RuntimeError("bug")
    lines = b"HELO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n" + refused + b"DATA\r\n"
    assert bench.send(lines)[-1][:9] == "451 4.3.0"


def test_bug_in_submit() -> None:
    """451, the content given up, the session goes on."""
    bench = Bench()
    bench.queue.raises = RuntimeError("bug")
    bench.begin()
    assert [line[:9] for line in bench.send(MESSAGE + b"NOOP\r\n")] == ["451 4.3.0", "250 2.0.0"]
    assert bench.events.bugs == [bench.queue.raises] and bench.queue.leftovers == []


def test_bug_in_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state is unknown: 421 and closed; never silence, never 5xx."""
    bench = Bench()
    bench.begin()
    error = RuntimeError("bug")

    def broken(_: bytes) -> bytes:
        raise error

    assert bench.session.intake is not None
    monkeypatch.setattr(bench.session.intake, "feed", broken)
    assert [line[:9] for line in bench.send(MESSAGE)] == ["421 4.3.0"]
    assert bench.transport.closed and bench.events.bugs == [error] and bench.queue.leftovers == []


@pytest.mark.parametrize(
    ("error", "reply"),
    [(NoSpace("x"), "452 4.3.1"), (QueueFailed("x"), "451 4.3.0"), (QueueClosed("x"), "421 4.3.2")],
)
@pytest.mark.parametrize("where", ["refusal", "raises", "closed"])
def test_queue_trouble(error: Exception, reply: str, where: str) -> None:
    """At DATA, inside submit, or from the commit: temporary, nothing left behind, no bug."""
    bench = Bench()
    setattr(bench.queue, where, error)
    replies = bench.begin()
    if where != "closed":
        replies = bench.send(MESSAGE)
    assert replies[-1][:9] == reply
    assert bench.queue.leftovers == [] and bench.events.bugs == []
    assert bench.transport.closed is (reply[:3] == "421")


def test_no_space_at_mail() -> None:
    """452 before anything is sent: a full spool, or a size that does not fit above the reserve."""
    bench = Bench({"limits": {"spool_reserve": 1000}})
    bench.send(b"HELO c\r\n")
    bench.queue.room.free_bytes = 2000
    assert bench.send(b"MAIL FROM:<a@b.example> SIZE=1001\r\n")[0][:9] == "452 4.3.1"
    assert bench.send(b"MAIL FROM:<a@b.example> SIZE=1000\r\nRSET\r\n")[0][:9] == "250 2.1.0"
    bench.queue.room.full = True
    assert bench.send(b"MAIL FROM:<a@b.example>\r\n")[0][:9] == "452 4.3.1"


def test_what_is_pipelined_behind_a_full_spool() -> None:
    """Promise 2: RCPT and DATA behind a MAIL that was refused for now are refused for now, however many; what
    begins anew does not inherit that."""
    bench = Bench()
    bench.queue.room.full = True
    lines = b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<x@y.example>\r\n" * 30 + b"DATA\r\n"
    replies = bench.send(b"HELO c\r\n" + lines)[1:]
    assert {line[:9] for line in replies} == {"452 4.3.1"} and len(replies) == 32
    assert bench.send(b"RSET\r\nDATA\r\n")[1][:9] == "503 5.5.1"
    bench.send(lines)
    assert bench.send(b"MAIL FROM:<a@b\r\nDATA\r\n")[1][:9] == "503 5.5.1"
    bench.queue.room.full = False
    assert bench.send(lines)[-1][:3] == "354"


def test_a_refused_sender_is_told() -> None:
    """The line of a refused MAIL names who it was from: no transaction has begun that could."""
    bench = Bench()
    bench.send(b"EHLO c\r\nMAIL FROM:<a@b.example> SIZE=99999999999\r\nMAIL FROM:<> SIZE=99999999999\r\n")
    assert [(stage, sender) for stage, _, _, sender, _ in bench.events.rejections] == [
        ("mail", "a@b.example"),
        ("mail", ""),
    ]


def test_rejections_are_told() -> None:
    """Stage, reply, reason, sender and recipient of what was refused."""
    bench = Bench({"trusted_networks": []})
    bench.send(b"HELO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example> NOTIFY=NEVER\r\nXX\r\n")
    (stage, reply, reason, sender, recipient) = bench.events.rejections[0]
    assert (stage, reply.code, reason, sender) == ("rcpt", 550, "policy", "a@b.example")
    assert recipient == "<x@y.example> NOTIFY=NEVER"
    assert len(bench.events.rejections) == 1
    assert bench.events.commands[-1] == ("other", 500)


def test_normalized_is_told() -> None:
    """Once a message."""
    bench = Bench()
    bench.begin()
    bench.send(b"a\nb\nc\r\n.\r\n")
    assert bench.events.mended == 1 and bench.content == b"a\r\nb\r\nc\r\n"


async def test_command_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam for STARTTLS and AUTH: a coroutine answers, input behind it waits, a lost client cancels
    it."""
    gate = asyncio.Event()

    async def work() -> bytes:
        await gate.wait()
        return b"235 2.7.0 ok\r\n"

    def auth(session: Session, _: str) -> bytes:
        return session.wait_for("AUTH", work())

    monkeypatch.setitem(commands.COMMANDS, "AUTH", auth)
    bench = Bench()
    monkeypatch.setattr(bench.session, "loop", asyncio.get_running_loop())
    assert bench.send(b"NOOP\r\nAUTH PLAIN\r\nNOOP\r\n") == ["250 2.0.0 ok"]
    gate.set()
    task = bench.session.task
    assert task is not None
    await asyncio.wait_for(task, 5)
    assert bench.transport.take() == ["235 2.7.0 ok", "250 2.0.0 ok"]

    gate.clear()
    bench.send(b"AUTH PLAIN\r\n")
    task = bench.session.task
    assert task is not None
    bench.transport.lose()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert bench.session.state is states.CLOSING
