"""Inside TLS a session pauses, ends and is cut as in clear; the transport has its own ways on each loop."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator

import pytest
from fakes.certificates import authority
from fakes.loops import LOOPS, Run, running
from fakes.memory_queue import PENDING_LIMIT
from fakes.secure_front import Wire, secure_front, until

from relay.front import session as sessions
from relay.front import states
from relay.front.channel import BUFFER_LIMIT

KINDS = ("starttls", "implicit")
BEGIN = ("EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>", "DATA")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


def test_said_with_the_end_of_the_handshake(run: Run) -> None:
    """A client's first commands may come in one packet with its Finished: nothing is lost or swapped."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.client()
            await client.reply()
            await client.say("STARTTLS")
            await client.handshake(then=b"".join(line.encode() + b"\r\n" for line in BEGIN[:3]))
            assert [reply[:3] for reply in await client.replies(3)] == ["250", "250", "250"]
            assert (await client.say("DATA"))[:3] == "354"

    run(scenario())


def test_large_messages(run: Run) -> None:
    """Three of 3 MB on one connection, byte for byte."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            body = b"Subject: large\r\n\r\n" + b"".join(b"%078d\r\n" % number for number in range(40_000))
            for _ in range(3):
                assert (await client.deliver(body))[:3] == "250"
            for accepted in front.queue.accepted:
                assert accepted.content.data.partition(b" +0000\r\n")[2] == body

    run(scenario())


def test_reading_pauses_while_the_spool_is_slow(run: Run) -> None:
    """Memory is bounded, and reading goes on when the disk has caught up."""

    async def scenario() -> None:
        async with secure_front() as front:
            front.queue.slow = True
            client = await front.secure_client()
            assert (await client.say(*BEGIN))[:3] == "354"
            body = (b"x" * 78 + b"\r\n") * 40_000
            sending = asyncio.ensure_future(in_pieces(client, body + b".\r\n"))
            session, content = front.session, front.queue.contents[0]
            most = 0
            for _ in range(200):
                await until(lambda: session.held or front.queue.accepted)
                if front.queue.accepted:
                    break
                most = max(most, content.pending)
                content.drain()
            await sending
            assert (await client.reply())[:3] == "250"
            assert PENDING_LIMIT < most < PENDING_LIMIT + 2**20
            assert front.queue.accepted[0].content.data.endswith(body)

    run(scenario())


def narrow(client: Wire, transport: asyncio.Transport | None, octets: int) -> None:
    """The system keeps less of what the client does not read."""
    assert transport is not None
    for end, option in ((transport, socket.SO_SNDBUF), (client.writer, socket.SO_RCVBUF)):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, octets)


async def in_pieces(client: Wire, data: bytes) -> None:
    for start in range(0, len(data), 16384):
        client.send(data[start : start + 16384])
        await client.writer.drain()


def test_a_client_that_does_not_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands wait until it reads; then each has its reply."""

    async def scenario() -> None:
        async with secure_front() as front:
            monkeypatch.setattr(sessions, "JUNK_LIMIT", 150_000)
            client = await front.secure_client()
            session, number = front.session, 150_000
            narrow(client, session.below, 65536)
            sending = asyncio.ensure_future(in_pieces(client, b"NOOP\r\n" * number))
            await until(lambda: session.choked)
            assert session.held and len(session.buffer) < 2**20
            assert session.transport is not None
            assert session.transport.get_write_buffer_limits()[1] == BUFFER_LIMIT
            text = 0
            while text < number * len("250 2.0.0 ok\r\n"):
                data = await client.read()
                assert data
                text += len(data)
            await sending
            assert not session.choked and not session.held
            assert await client.say("QUIT") == "221 2.0.0 goodbye"

    run(scenario())


def test_starttls_behind_replies_that_are_not_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport's pause in clear must not reach TLS as an end without a beginning."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.client()
            await client.reply()
            narrow(client, front.session.transport, 16384)
            number = 9_000  # 126,000 octets of replies
            monkeypatch.setattr(sessions, "JUNK_LIMIT", number)
            client.send(b"NOOP\r\n" * number + b"STARTTLS\r\n")
            for _ in range(number):
                assert await client.reply() == "250 2.0.0 ok"
            assert await client.reply() == "220 2.0.0 begin TLS"
            await client.handshake()
            assert (await client.deliver())[:3] == "250"

    run(scenario())


@pytest.mark.parametrize("farewell", ["close_notify", "FIN", "both"])
def test_the_client_ends(run: Run, farewell: str, caplog: pytest.LogCaptureFixture) -> None:
    """Before the reply: the message past its dot is kept; the loop has nothing to complain of."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            await client.say(*BEGIN)
            front.queue.held = True
            client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
            await until(lambda: front.queue.waiting)
            if farewell != "FIN":
                client.goodbye()
            if farewell != "close_notify":
                client.writer.write_eof()
            await until(lambda: front.events.closed or front.session.eof)
            front.queue.commit()
            await until(lambda: front.events.closed)
            assert len(front.queue.accepted) == len(front.events.receipts) == 1
        assert not caplog.records

    run(scenario())


@pytest.mark.parametrize("farewell", ["close_notify", "FIN", "RST"])
def test_the_client_goes_in_the_middle_of_a_message(run: Run, farewell: str) -> None:
    """Nothing of it stays."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            await client.say(*BEGIN)
            client.send(b"Subject: x\r\n\r\nbody\r\n.\r")
            await until(lambda: front.session.intake and front.session.intake.carry)
            if farewell == "close_notify":
                client.goodbye()
            elif farewell == "FIN":
                client.writer.write_eof()
            else:
                client.writer.transport.abort()
            await until(lambda: front.events.closed)
            assert front.queue.accepted == [] and front.queue.contents[0].discarded

    run(scenario())


@pytest.mark.parametrize("tls", KINDS)
def test_shutdown(run: Run, tls: str) -> None:
    """Idle sessions hear 421 inside TLS and are gone although the client says no goodbye; a commit is waited
    for; a handshake is cut without a word."""

    async def scenario() -> None:
        async with secure_front(tls) as front:
            idle, committing, leaving = [await front.secure_client() for _ in range(3)]
            await leaving.say("QUIT")
            await committing.say(*BEGIN)
            front.queue.held = True
            committing.send(b".\r\n")
            await until(lambda: front.queue.waiting)
            stalled = await front.client()
            if tls == "starttls":
                await stalled.reply()
                await stalled.say("STARTTLS")
            await until(lambda: any(each.state is states.HANDSHAKE for each in front.admission.all()))
            stopping = asyncio.ensure_future(front.stop())
            assert (await idle.reply())[:9] == "421 4.3.2"
            await until(lambda: len(front.admission) == 1)
            front.queue.commit()
            assert (await committing.reply())[:3] == "250"
            assert (await committing.reply())[:9] == "421 4.3.2"
            assert await asyncio.wait_for(stopping, 2) == 0
            assert await stalled.closed() == b""
            assert front.events.secured == [(tls, "TLSv1.3")] * 3

    run(scenario())


def test_time_out(run: Run) -> None:
    """421 4.4.2 inside TLS; the message under way is given up."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            await client.say(*BEGIN)
            front.session.time_out()
            assert (await client.closed())[:9] == b"421 4.4.2"
            assert front.queue.contents[0].discarded

    run(scenario())


def test_time_out_in_the_handshake(run: Run) -> None:
    """Cut; nothing can be said."""

    async def scenario() -> None:
        async with secure_front("implicit") as front:
            client = await front.client()
            await until(lambda: front.events.opened)
            front.session.time_out()
            assert await client.closed() == b""
            await until(lambda: front.events.closed)

    run(scenario())


def test_a_client_that_never_says_goodbye(run: Run) -> None:
    """After QUIT the relay has said goodbye; it does not wait for the client's for ever."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            assert (await client.say("QUIT"))[:3] == "221"
            assert await client.read() == b"", "close_notify"
            session = front.session
            assert session.state is states.CLOSING and not front.events.closed
            session.deadline.put(-1)
            session.time_out()
            await until(lambda: front.events.closed)

    run(scenario())


def test_garbage_inside_tls(run: Run) -> None:
    """A record that does not decrypt ends the connection, no more."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            await client.say("EHLO c")
            client.writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            await until(lambda: front.events.closed)

    run(scenario())


def test_many_at_once(run: Run) -> None:
    """A hundred handshakes at the same time, each with its message."""

    async def scenario() -> None:
        async with secure_front("implicit") as front:
            context = authority().client()

            async def one() -> str:
                client = await front.client()
                await client.handshake(context)
                await client.reply()
                return await client.deliver()

            replies = await asyncio.gather(*(one() for _ in range(100)))
            assert [reply[:3] for reply in replies] == ["250"] * 100

    run(scenario())


@pytest.mark.parametrize("way", ["QUIT", "garbage", "nothing", "time-out"])
def test_buffers_are_given_back_at_the_end(run: Run, way: str) -> None:
    """Promise 8: those of TLS are large; they do not wait until garbage is collected."""

    async def scenario() -> None:
        async with secure_front("implicit", handshake_time=0.1 if way == "time-out" else 60.0) as front:
            client = await front.client()
            await until(lambda: alive() == 1)
            if way == "QUIT":
                await client.handshake()
                await client.reply()
                await client.say("QUIT")
            elif way == "garbage":
                client.send(b"EHLO client.example\r\n")
            elif way == "nothing":
                client.writer.write_eof()
            await client.closed()
            await until(lambda: front.events.closed and front.events.secured)
            await until(lambda: alive() == 0)

    gc.collect()
    gc.disable()
    try:
        run(scenario())
    finally:
        gc.enable()


def alive() -> int:
    """How many connections have the buffers of TLS, on either loop."""
    return sum(type(each).__name__ == "SSLProtocol" for each in gc.get_objects())
