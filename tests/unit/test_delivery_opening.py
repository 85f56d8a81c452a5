"""Opening a session with a scripted server: each stage refused, cut, silent or talkative; TLS by policy."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.jobs import job
from fakes.loops import LOOPS
from fakes.ports import ReservedPort
from fakes.scripted_server import CERTIFICATE, DROP, EXTENSIONS, RESET, STALL, Answer, Script, ScriptedServer

from relay.config.model import TlsPolicy
from relay.delivery.connection import Connection
from relay.delivery.opening import OpenFailed, Opening, open_connection, tls_context
from relay.delivery.plain_hosts import PlainHosts
from relay.delivery.timeouts import Timeouts
from relay.observe.events import Events
from relay.outcome import Delivered
from relay.routing.target import Target

Run = Callable[[Coroutine[Any, Any, None]], None]
SHORT = Timeouts(connect=0.05, greeting=0.05, ehlo=0.05, tls=0.05)
WITH_TLS = (*EXTENSIONS, "STARTTLS")


@dataclass(frozen=True)
class Policy:
    tls: TlsPolicy = "opportunistic"


class TlsEvents(Events):
    """Writes down what is said about TLS and stages."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[tuple[str, str, str, str]] = []
        self.stages: list[str] = []

    def tls(self, direction: str, version: str, policy: str, result: str) -> None:
        self.sessions.append((direction, version, policy, result))

    def stage(self, stage: str, seconds: float) -> None:
        assert seconds >= 0
        self.stages.append(stage)


@dataclass
class Opener:
    """Opens connections to one server and closes them at the end."""

    port: int
    events: TlsEvents = field(default_factory=TlsEvents)
    timeouts: Timeouts = field(default_factory=Timeouts)
    source: str | None = None
    opened: list[Connection] = field(default_factory=list)
    opening: Opening = field(init=False)

    def __post_init__(self) -> None:
        self.opening = Opening("relay.example.com", self.events, self.source, self.timeouts)

    async def open(
        self, tls: TlsPolicy = "none", *, name: str = "mx.example.net", implicit: bool = False
    ) -> Connection:
        target = Target(name, "127.0.0.1", self.port, implicit)
        connection = await open_connection(target, Policy(tls), self.opening)
        self.opened.append(connection)
        assert connection.idle and connection.setup > 0
        return connection

    async def fail(self, tls: TlsPolicy = "none", **options: Any) -> OpenFailed:
        with pytest.raises(OpenFailed) as caught:
            await self.open(tls, **options)
        assert caught.value.host.startswith("mx.example.net[127.0.0.1]:") or "name" in options
        return caught.value

    async def __aenter__(self) -> Opener:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self.opened:
            connection.abort()
            await connection.wait_closed()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine on one of the loops; whatever the loop's exception handler was told is an error."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        yield lambda scenario: runner.run(asyncio.wait_for(scenario, 20))
    assert complaints == []


def trusting(verify: bool) -> ssl.SSLContext:
    """As tls_context, but the certificate of the scripted server is a known one."""
    context = tls_context(False)
    if verify:
        context = ssl.create_default_context(cafile=str(CERTIFICATE))
    return context


def facts(failure: OpenFailed) -> tuple[str, str, str]:
    return failure.stage, failure.reply.enhanced, failure.kind


async def deliver(connection: Connection) -> None:
    """A message goes over it."""
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work = job()
    connection.start(work, lambda *_: end.set_result(None))
    await end
    assert isinstance(work.results[0], Delivered)


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
        async with ScriptedServer(script) as server, Opener(server.port, timeouts=SHORT) as opener:
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
                async with Opener(port, timeouts=SHORT) as opener:
                    failure = await opener.fail()
                    assert facts(failure) == ("connect", "4.4.1", "connect")
                    assert "0.05 s" in failure.reply.text

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
            await server.conversations[0].ended.wait()
            await asyncio.sleep(0)
            assert before == open_sockets()

    run(scenario())


def open_sockets() -> int:
    """Sockets of this process."""
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(link.startswith("socket:") for link in links)


# --- TLS


@pytest.mark.parametrize("tls", ["opportunistic", "require", "verify"])
def test_starttls(run: Run, tls: TlsPolicy) -> None:
    """Offered STARTTLS is used by all policies but "none"; EHLO is said again inside (RFC 3207 4.2)."""

    async def scenario() -> None:
        async with ScriptedServer({}, WITH_TLS) as server, Opener(server.port) as opener:
            opener.opening.tls_context = trusting
            connection = await opener.open(tls)
            assert connection.secure == "TLSv1.3"
            await deliver(connection)
            assert server.conversations[0].secure
            assert server.conversations[0].commands[:2] == [b"EHLO relay.example.com", b"STARTTLS"] * 1
            assert [("out", "TLSv1.3", tls, "ok")] == opener.events.sessions
            assert opener.events.stages == ["connect", "tls"]
            plain = await opener.open("none")
            assert plain.secure == ""

    run(scenario())


@pytest.mark.parametrize("tls", ["opportunistic", "verify"])
def test_implicit_tls(run: Run, tls: TlsPolicy) -> None:
    """TLS from the first octet (smtps)."""

    async def scenario() -> None:
        async with ScriptedServer(implicit_tls=True) as server, Opener(server.port) as opener:
            opener.opening.tls_context = trusting
            connection = await opener.open(tls, implicit=True)
            assert connection.secure == "TLSv1.3"
            await deliver(connection)
            connection.close()
            await connection.wait_closed()
            assert server.conversations[0].commands[-1] == b"QUIT"

    run(scenario())


def test_implicit_tls_with_a_plain_server(run: Run) -> None:
    """A handshake with a greeting: a fault of TLS, and never in clear."""

    async def scenario() -> None:
        async with ScriptedServer() as server, Opener(server.port) as opener:
            failure = await opener.fail("opportunistic", implicit=True)
            assert facts(failure) == ("starttls", "4.7.5", "tls")
            assert len(server.conversations) == 1

    run(scenario())


BROKEN: dict[str, tuple[Answer, str]] = {  # answer to STARTTLS -> enhanced code where TLS is required
    "4yz": ("454 4.7.0 not now", "4.7.0"),
    "5yz": ("554 5.7.3 no", "4.7.4"),
    "421": ("421 4.3.2 bye", "4.3.2"),
    "EOF": (DROP, "4.7.5"),
    "EOF after 220": (("220 go", DROP), "4.7.5"),
    "RST after 220": (("220 go", RESET), "4.7.5"),
    "no handshake": (("220 go", STALL), "4.7.5"),
    "not TLS": (("220 go", b"250 this is no handshake at all\r\n", STALL), "4.7.5"),
    "nonsense": (b"what?\r\n", "4.7.4"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_starttls_where_it_is_required(run: Run, name: str) -> None:
    """Row STARTTLS, require and verify: the next host, a fault of the route; nothing is said in clear."""

    async def scenario() -> None:
        answer, enhanced = BROKEN[name]
        async with ScriptedServer({"STARTTLS": answer}, WITH_TLS) as server:
            for tls in ("require", "verify"):
                async with Opener(server.port, timeouts=SHORT) as opener:
                    failure = await opener.fail(tls)
                    assert ("starttls", enhanced, "tls") == facts(failure)
                    assert failure.greeted
                    assert [("out", "none", tls, "failed")] == opener.events.sessions
            assert all(b"MAIL" not in talk.octets for talk in server.conversations)

    run(scenario())


@pytest.mark.parametrize("name", BROKEN)
def test_broken_starttls_where_it_is_a_bonus(run: Run, name: str) -> None:
    """Row STARTTLS, opportunistic: the same host in clear, counted, and remembered for the next time."""

    async def scenario() -> None:
        script: Script = {"STARTTLS": BROKEN[name][0]}
        async with ScriptedServer(script, WITH_TLS) as server, Opener(server.port, timeouts=SHORT) as opener:
            connection = await opener.open("opportunistic")
            assert connection.secure == ""
            await deliver(connection)
            assert opener.events.sessions == [("out", "none", "opportunistic", "failed")]
            before = sum(talk.commands.count(b"STARTTLS") for talk in server.conversations)
            assert before == 1
            again = await opener.open("opportunistic")
            await deliver(again)
            assert before == sum(talk.commands.count(b"STARTTLS") for talk in server.conversations)
            assert name != "4yz" or len(server.conversations) == 2  # refused: the first went on in clear

    run(scenario())


def test_a_session_that_dies_inside_tls(run: Run) -> None:
    """The handshake is good and the EHLO inside is not answered: for opportunistic a fault of TLS too."""

    async def scenario() -> None:
        script: Script = {"EHLO#2": DROP}
        async with ScriptedServer(script, WITH_TLS) as server, Opener(server.port) as opener:
            opener.opening.tls_context = trusting
            await deliver(await opener.open("opportunistic"))
            assert len(server.conversations) == 2 and not server.conversations[1].secure
            failure = await opener.fail("require")
            assert facts(failure) == ("ehlo", "4.4.1", "greeting")

    run(scenario())


def test_starttls_is_not_offered(run: Run) -> None:
    """In clear where that is allowed, else a fault of TLS."""

    async def scenario() -> None:
        async with ScriptedServer() as server, Opener(server.port) as opener:
            await deliver(await opener.open("opportunistic"))
            for tls in ("require", "verify"):
                failure = await opener.fail(tls)
                assert facts(failure) == ("starttls", "4.7.4", "tls")

    run(scenario())


@pytest.mark.parametrize(("name", "trust"), [("mx.example.net", False), ("other.example.net", True)])
def test_verify_refuses(run: Run, name: str, trust: bool) -> None:
    """A certificate nobody knows, or one for somebody else: no session under verify, one under require."""

    async def scenario() -> None:
        async with ScriptedServer({}, WITH_TLS) as server, Opener(server.port) as opener:
            if trust:
                opener.opening.tls_context = trusting
            failure = await opener.fail("verify", name=name)
            assert facts(failure) == ("starttls", "4.7.5", "tls")
            assert "certificate" in failure.reply.text
            assert (await opener.open("require", name=name)).secure == "TLSv1.3"

    run(scenario())


@pytest.mark.parametrize("name", ["[127.0.0.1]", "under_score.example.net", "xn--.example.net"])
def test_strange_names(run: Run, name: str) -> None:
    """Literals and names that fit no certificate still get an encrypted session where any will do."""

    async def scenario() -> None:
        async with ScriptedServer({}, WITH_TLS) as server, Opener(server.port) as opener:
            assert (await opener.open("require", name=name)).secure == "TLSv1.3"
            if name.startswith("["):
                opener.opening.tls_context = trusting
                assert (await opener.open("verify", name=name)).secure == "TLSv1.3"

    run(scenario())


def test_what_was_said_before_the_handshake_is_forgotten(run: Run) -> None:
    """A reply injected behind 220 is not taken for one inside TLS (the client side of CVE-2011-0411)."""

    async def scenario() -> None:
        script: Script = {
            "STARTTLS": b"220 go\r\n250-injected\r\n250 SIZE 1\r\n",
            "EHLO#2": "250-mx\n250 DSN",
        }
        async with ScriptedServer(script, WITH_TLS) as server, Opener(server.port, timeouts=SHORT) as opener:
            # the script says octets only, so the server starts no handshake: what follows can only be clear text
            failure = await opener.fail("require")
            assert facts(failure) == ("starttls", "4.7.5", "tls")

    run(scenario())


# --- the memory of hosts without TLS


def test_plain_hosts_are_forgotten() -> None:
    """After a while TLS is tried again, and no more hosts are kept than the bound."""
    clock = FakeClock()
    hosts = PlainHosts(limit=3, seconds=60, monotonic=clock.monotonic)
    hosts.add("192.0.2.1", 25)
    assert ("192.0.2.1", 25) in hosts
    assert ("192.0.2.1", 26) not in hosts
    clock.advance(59)
    assert ("192.0.2.1", 25) in hosts
    clock.advance(2)
    assert ("192.0.2.1", 25) not in hosts
    for number in range(4):
        hosts.add(f"192.0.2.{number}", 25)
    assert [(f"192.0.2.{number}", 25) in hosts for number in range(4)] == [False, True, True, True]
