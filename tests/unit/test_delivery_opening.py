"""Opening a session: each stage refused, cut, silent or talkative, on both event loops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fakes.connected import short
from fakes.loops import LOOPS, Run, running
from fakes.opener import WITH_TLS, Opener, deliver, facts
from fakes.ports import ReservedPort
from fakes.scripted_server import DROP, RESET, STALL, Script, ScriptedServer

from relay.delivery.timeouts import Timeouts


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


def test_plain(run: Run) -> None:
    """Connect, greeting, EHLO; then our own protocol has the transport, without Nagle's delay."""

    async def scenario() -> None:
        async with ScriptedServer() as server, Opener(server.port) as opener:
            connection = await opener.open()
            assert f"mx.example.net[127.0.0.1]:{server.port}" == connection.host
            assert connection.secure == ""
            assert connection.capabilities.pipelining and connection.capabilities.size == 50_000_000
            sock = connection._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            await deliver(connection)
            assert opener.events.stages == ["connect"]
            assert opener.events.sessions == []

    run(scenario())


def test_helo(run: Run) -> None:
    """A peer that does not know EHLO is greeted with HELO and offers nothing (RFC 5321 3.2)."""

    async def scenario() -> None:
        async with ScriptedServer({"EHLO": "502 5.5.1 what?"}) as server, Opener(server.port) as opener:
            connection = await opener.open()
            assert not connection.capabilities.pipelining
            await deliver(connection)
            assert server.conversations[0].commands[:2] == [
                b"EHLO relay.example.com",
                b"HELO relay.example.com",
            ]

    run(scenario())


def test_source_address(run: Run) -> None:
    """Connections come from the address that is configured; one of the other family is not used."""

    async def scenario() -> None:
        async with ScriptedServer() as server:
            async with Opener(server.port, source="127.0.0.2") as opener:
                connection = await opener.open()
                assert connection._transport.get_extra_info("sockname")[0] == "127.0.0.2"
            async with Opener(server.port, source="::1") as opener:
                connection = await opener.open()
                assert connection._transport.get_extra_info("sockname")[0] == "127.0.0.1"
            async with Opener(server.port, source="192.0.2.1") as opener:
                assert facts(await opener.fail()) == ("connect", "4.4.1", "connect")

    run(scenario())


FAILURES: dict[str, tuple[Script, tuple[str, str, str], int]] = {  # script -> (stage, enhanced, kind), code
    "greeting 421": ({"CONNECT": "421 4.3.2 busy"}, ("greeting", "4.3.2", "greeting"), 421),
    "greeting 4yz": ({"CONNECT": "450 4.7.1 busy"}, ("greeting", "4.7.1", "greeting"), 450),
    "greeting 5yz": ({"CONNECT": "554 5.7.1 no"}, ("greeting", "4.3.2", "greeting"), 554),
    "greeting 53x": ({"CONNECT": "530 no"}, ("greeting", "4.7.8", "auth"), 530),
    "greeting 250": ({"CONNECT": "250 hello"}, ("greeting", "4.3.2", "greeting"), 0),
    "greeting EOF": ({"CONNECT": DROP}, ("greeting", "4.4.1", "greeting"), 0),
    "greeting RST": ({"CONNECT": RESET}, ("greeting", "4.4.1", "greeting"), 0),
    "greeting half": ({"CONNECT": (b"22", DROP)}, ("greeting", "4.4.1", "greeting"), 0),
    "greeting silent": ({"CONNECT": STALL}, ("greeting", "4.4.1", "greeting"), 0),
    "greeting drips": ({"CONNECT": (b"220-a\r\n", STALL)}, ("greeting", "4.4.1", "greeting"), 0),
    "greeting HTTP": ({"CONNECT": b"HTTP/1.1 400 Bad\r\n"}, ("greeting", "4.3.2", "greeting"), 0),
    "greeting endless": ({"CONNECT": b"220-x\r\n" * 20_000}, ("greeting", "4.3.2", "greeting"), 0),
    "greeting twice": ({"CONNECT": b"220 a\r\n220 b\r\n"}, ("greeting", "4.3.2", "greeting"), 0),
    "EHLO 4yz": ({"EHLO": "451 4.3.0 no"}, ("ehlo", "4.3.0", "greeting"), 451),
    "EHLO 421": ({"EHLO": "421 4.3.2 no"}, ("ehlo", "4.3.2", "greeting"), 421),
    "EHLO and HELO 5yz": ({"EHLO": "550 no", "HELO": "550 5.7.1 no"}, ("ehlo", "4.3.2", "greeting"), 550),
    "EHLO EOF": ({"EHLO": DROP}, ("ehlo", "4.4.1", "greeting"), 0),
    "EHLO RST": ({"EHLO": RESET}, ("ehlo", "4.4.1", "greeting"), 0),
    "EHLO half": ({"EHLO": (b"250-mx\r\n250", DROP)}, ("ehlo", "4.4.1", "greeting"), 0),
    "EHLO silent": ({"EHLO": STALL}, ("ehlo", "4.4.1", "greeting"), 0),
    "EHLO nonsense": ({"EHLO": b"what?\r\n"}, ("ehlo", "4.3.2", "greeting"), 0),
    "talks ahead": ({"EHLO": b"250 mx\r\n250 ok\r\n250 ok\r\n"}, ("ehlo", "4.3.2", "greeting"), 0),
    "talks ahead, half": ({"EHLO": b"250 mx\r\n25"}, ("ehlo", "4.3.2", "greeting"), 0),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures(run: Run, name: str) -> None:
    """Rows connect to EHLO: the next host, and the lane knows why. Nothing stays open."""

    async def scenario() -> None:
        script, expected, code = FAILURES[name]
        silent = "silent" in name or "drips" in name
        timeouts = short(expected[0]) if silent else Timeouts()
        async with ScriptedServer(script) as server, Opener(server.port, timeouts=timeouts) as opener:
            failure = await opener.fail()
            assert (expected, code) == (facts(failure), failure.reply.code)
            assert failure.greeted is (failure.stage == "ehlo")
            if script.get("CONNECT", script.get("EHLO")) not in (DROP, RESET):
                await server.reached("CONNECT")

    run(scenario())


def test_refused(run: Run) -> None:
    """Nobody listens."""

    async def scenario() -> None:
        with closing(ReservedPort()) as reserved:
            async with Opener(reserved.port) as opener:
                failure = await opener.fail()
                assert facts(failure) == ("connect", "4.4.1", "connect")
                assert "refused" in failure.reply.text and not failure.greeted

    run(scenario())


def test_connect_times_out(run: Run) -> None:
    """A host whose backlog is full answers nothing at all."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            port = full.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                async with Opener(port, timeouts=short("connect")) as opener:
                    failure = await opener.fail()
                    assert facts(failure) == ("connect", "4.4.1", "connect")
                    assert "0.1 s" in failure.reply.text

    run(scenario())


@pytest.mark.parametrize("occasion", ["CONNECT", "EHLO", "STARTTLS"])
def test_cancelled(run: Run, occasion: str) -> None:
    """An opening that is cancelled leaves no socket behind."""

    async def scenario() -> None:
        async with ScriptedServer({occasion: STALL}, WITH_TLS) as server, Opener(server.port) as opener:
            before = open_sockets()
            task = asyncio.ensure_future(opener.open("require"))
            await server.reached(occasion)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert open_sockets() == before + 1  # the server's, which has not looked yet

    run(scenario())


def open_sockets() -> int:
    """Sockets of this process."""
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link).startswith("socket:") for link in links)
