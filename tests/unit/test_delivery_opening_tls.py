"""TLS by policy: STARTTLS and smtps, refused, broken, remembered; on both event loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.clock import FakeClock
from fakes.connected import short
from fakes.loops import LOOPS, Run, running
from fakes.opener import WITH_TLS, Opener, deliver, facts, trusting
from fakes.scripted_server import DROP, RESET, STALL, Answer, Script, ScriptedServer

from relay.config.model import TlsPolicy
from relay.delivery.plain_hosts import PlainHosts
from relay.delivery.timeouts import Timeouts


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


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


def timeouts(name: str) -> Timeouts:
    return short("tls") if name in ("no handshake", "not TLS") else Timeouts()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_starttls_where_it_is_required(run: Run, name: str) -> None:
    """Row STARTTLS, require and verify: the next host, a fault of the route; nothing is said in clear."""

    async def scenario() -> None:
        answer, enhanced = BROKEN[name]
        async with ScriptedServer({"STARTTLS": answer}, WITH_TLS) as server:
            for tls in ("require", "verify"):
                async with Opener(server.port, timeouts=timeouts(name)) as opener:
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
        async with (
            ScriptedServer(script, WITH_TLS) as server,
            Opener(server.port, timeouts=timeouts(name)) as opener,
        ):
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
        script: Script = {"STARTTLS": "220 go\n250-injected\n250 SIZE 1"}  # in one write
        async with ScriptedServer(script, WITH_TLS) as server, Opener(server.port) as opener:
            connection = await opener.open("require")
            assert connection.secure
            assert connection.capabilities.size == 50_000_000
            await deliver(connection)

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
