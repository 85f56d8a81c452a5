"""Sessions behind a proxy: who the client is, what is refused, and TLS behind the header; on both event
loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from fakes.loops import LOOPS, Run, running
from fakes.secure_front import SecureFront, secure_front, until

TRUSTED = {"trusted_networks": ["192.0.2.0/24"]}
LINE = b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n"
BINARY = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes((192, 0, 2, 7, 127, 0, 0, 1)) + b"\x9c\x40\x00\x19"
GREETING = "220 relay.example.com ESMTP"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


def behind_proxy(
    tls: str = "off", sessions: int = 100, sessions_per_client: int = 100
) -> AbstractAsyncContextManager[SecureFront]:
    return secure_front(
        tls,
        config=TRUSTED,
        proxy_from=("127.0.0.0/8",),
        sessions=sessions,
        sessions_per_client=sessions_per_client,
    )


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
@pytest.mark.parametrize("way", ["one packet", "two packets", "by octet"])
def test_the_client_is_who_the_proxy_says(run: Run, header: bytes, way: str) -> None:
    """Its address counts for trust, log and Received; it is greeted after the header."""

    async def scenario() -> None:
        async with behind_proxy() as front:
            client = await front.client()
            if way == "one packet":
                client.send(header + b"EHLO early.example\r\n")
                assert [await client.reply(), (await client.reply())[:3]] == [GREETING, "250"]
            elif way == "two packets":
                client.send(header)
                assert await client.reply() == GREETING
            else:
                for octet in header:
                    client.send(bytes((octet,)))
                    await client.writer.drain()
                assert await client.reply() == GREETING
            assert (await client.deliver())[:3] == "250"
            assert front.events.clients == ["unknown[192.0.2.7]"]
            assert b"Received: from client.example ([192.0.2.7])" in front.queue.accepted[0].content.data
            assert front.events.receipts[0][1].client == "unknown[192.0.2.7]"

    run(scenario())


def test_trust_is_of_the_client(run: Run) -> None:
    """A client outside trusted_networks may not relay because its proxy might."""

    async def scenario() -> None:
        config = {"trusted_networks": ["127.0.0.0/8"]}
        async with secure_front("off", config=config, proxy_from=("127.0.0.0/8",)) as front:
            client = await front.client()
            client.send(LINE)
            await client.reply()
            last = await client.say("EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>")
            assert last == "550 5.7.1 relaying denied: 192.0.2.7 is not in trusted_networks"

    run(scenario())


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"], ids=["UNKNOWN", "LOCAL"]
)
def test_the_proxy_itself(run: Run, header: bytes) -> None:
    """UNKNOWN and LOCAL: the client is the peer."""

    async def scenario() -> None:
        async with behind_proxy() as front:
            client = await front.client()
            client.send(header)
            assert await client.reply() == GREETING
            assert front.events.clients == ["unknown[127.0.0.1]"]

    run(scenario())


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"EHLO client.example\r\n", "missing"),
        (b"PROXY TCP4 x y 1 2\r\n", "malformed address"),
        (b"PROXY UNKNOWN " + b"x" * 100, "line too long"),
        (b"PROXY TCP4", "connection closed"),
    ],
)
@pytest.mark.parametrize("tls", ["off", "implicit"])
def test_a_proxy_must_say_it_first(run: Run, octets: bytes, why: str, tls: str) -> None:
    """Else the connection is closed without a word, told and counted; nothing was executed."""

    async def scenario() -> None:
        async with behind_proxy(tls) as front:
            client = await front.client()
            client.send(octets)
            if why == "connection closed":
                client.writer.write_eof()
            assert await client.closed() == b""
            await until(lambda: not len(front.admission))
            assert front.events.unproxied == [why]
            assert not front.events.commands and not front.events.clients

    run(scenario())


def test_a_proxy_that_looks_whether_we_listen(run: Run) -> None:
    """Connects and leaves: nothing to tell."""

    async def scenario() -> None:
        async with behind_proxy() as front:
            client = await front.client()
            client.writer.write_eof()
            assert await client.closed() == b""
            assert front.events.unproxied == []

    run(scenario())


def test_a_header_has_its_time(run: Run) -> None:
    """It is not put off by octets that come one by one."""

    async def scenario() -> None:
        async with behind_proxy() as front:
            client = await front.client()
            await until(lambda: len(front.admission))
            ends = front.session.deadline.at
            client.send(b"PROXY ")
            await until(lambda: front.session.buffer)
            assert front.session.deadline.at == ends
            front.session.time_out()
            assert await client.closed() == b""
            assert front.events.unproxied == ["no PROXY header in time"]

    run(scenario())


def test_others_do_not_speak_it(run: Run) -> None:
    """From a peer that is not listed, PROXY is a command nobody knows."""

    async def scenario() -> None:
        async with secure_front("off", proxy_from=("192.0.2.0/24",)) as front:
            client = await front.client()
            assert await client.reply() == GREETING
            assert (await client.say(LINE.decode().strip()))[:9] == "500 5.5.2"
            assert front.events.clients == ["unknown[127.0.0.1]"]

    run(scenario())


@pytest.mark.parametrize(("tls", "said"), [("off", b"421 4.7.0"), ("implicit", b"")])
def test_limits_count_the_real_client(run: Run, tls: str, said: bytes) -> None:
    """Two clients of one proxy have a place each; a second session of one of them has none."""

    async def scenario() -> None:
        async with behind_proxy(tls, sessions_per_client=1, sessions=3) as front:
            clients = []
            for header in (LINE, LINE.replace(b".7 ", b".8 ")):
                client = await front.client()
                if tls == "implicit":
                    await client.handshake(before=header)
                else:
                    client.send(header)
                assert await client.reply() == GREETING
                clients.append(client)
            third = await front.client()
            third.send(LINE)
            assert (await third.closed())[:9] == said
            assert front.events.refusals == ["sessions_per_client"]
            assert len(front.admission) == 2
            await clients[0].say("QUIT")
            await clients[0].closed()
            await until(lambda: len(front.admission) == 1)
            again = await front.client()
            again.send(LINE)
            await until(lambda: front.events.opened == 3)

    run(scenario())


def test_all_sessions_are_counted_before_the_header(run: Run) -> None:
    """Connections that say nothing take places too."""

    async def scenario() -> None:
        async with behind_proxy(sessions=2, sessions_per_client=1) as front:
            clients = [await front.client() for _ in range(3)]
            assert (await clients[2].closed())[:9] == b"421 4.7.0"
            clients[1].send(LINE)
            assert await clients[1].reply() == GREETING
            assert front.events.refusals == ["sessions"]

    run(scenario())


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
@pytest.mark.parametrize("way", ["one packet", "two packets", "split"])
def test_implicit_tls_behind_the_header(run: Run, header: bytes, way: str) -> None:
    """The header is in clear, the handshake follows it, also in the same packet."""

    async def scenario() -> None:
        async with behind_proxy("implicit") as front:
            client = await front.client()
            before = header
            if way == "two packets":
                client.send(header)
                await until(lambda: front.events.opened)
                before = b""
            elif way == "split":
                client.send(header[:20])
                await until(lambda: len(front.admission) and front.session.buffer)
                before = header[20:]
            await client.handshake(before=before, then=b"EHLO early.example\r\n")
            assert [await client.reply(), (await client.reply())[:3]] == [GREETING, "250"]
            assert (await client.deliver())[:3] == "250"
            assert b"([192.0.2.7])\r\n\t(using TLSv1.3)" in front.queue.accepted[0].content.data

    run(scenario())


def test_starttls_behind_the_header(run: Run) -> None:
    async def scenario() -> None:
        async with behind_proxy("starttls") as front:
            client = await front.client()
            client.send(LINE + b"STARTTLS\r\n")
            assert [await client.reply(), await client.reply()] == [GREETING, "220 2.0.0 begin TLS"]
            await client.handshake()
            assert (await client.deliver())[:3] == "250"

    run(scenario())


def test_shutdown_cuts_what_has_no_header(run: Run) -> None:
    async def scenario() -> None:
        async with behind_proxy() as front:
            client = await front.client()
            await until(lambda: len(front.admission))
            assert await front.stop(1.0) == 0
            assert await client.closed() == b""

    run(scenario())
