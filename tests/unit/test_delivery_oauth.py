"""Tokens for XOAUTH2: from a scripted endpoint, kept, renewed in time, asked for once; logins with them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.certificates import authority
from fakes.clock import FakeClock
from fakes.logins import Logins
from fakes.loops import LOOPS, Run, running
from fakes.opener import WITH_TLS, Opener, deliver, facts
from fakes.ports import ReservedPort
from fakes.scripted_server import Script, ScriptedServer
from fakes.token_endpoint import ACCESS, CLIENT, REFRESH, TokenEndpoint, granted, refused
from pydantic import SecretStr

from relay.config.model import Oauth
from relay.delivery.oauth import NoToken, Tokens
from relay.delivery.oauth_answer import MOST, read_answer
from relay.delivery.oauth_endpoint import fetch
from relay.delivery.secret import Secrets
from relay.routing.login import Login

SCOPE = "https://outlook.office365.com/.default"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


def oauth(url: str, **keys: Any) -> Oauth:
    secrets = keys or {"client_secret": CLIENT}
    return Oauth.model_validate({"token_url": url, "client_id": "app", "scope": SCOPE, **secrets})


class World:
    """Tokens with a clock of their own."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.exposed: list[str] = []
        self.tokens = Tokens(Secrets(self.exposed.append), self.clock.monotonic, fetch)


async def test_the_clients_own_token() -> None:
    """RFC 6749 section 4.4: what Microsoft calls the client credentials flow."""
    async with TokenEndpoint() as endpoint:
        assert await World().tokens.get("smarthost", oauth(endpoint.url)) == ACCESS
        assert endpoint.forms == [
            {
                "grant_type": "client_credentials",
                "client_id": "app",
                "client_secret": CLIENT,
                "scope": SCOPE,
            }
        ]


async def test_by_refresh_token(tmp_path: Path) -> None:
    """RFC 6749 section 6; the secrets from files. A rotated refresh token is used from then on, until the
    file changes."""
    file = tmp_path / "refresh"
    file.write_text(f"{REFRESH}\n")
    async with TokenEndpoint((200, granted(refresh_token="rotated"))) as endpoint:
        world, keys = World(), oauth(endpoint.url, refresh_token_file=file)
        await world.tokens.get("smarthost", keys)
        world.clock.advance(3600)
        await world.tokens.get("smarthost", keys)
        file.write_text("written anew")
        world.clock.advance(3600)
        await world.tokens.get("smarthost", keys)
        asked = [form["refresh_token"] for form in endpoint.forms]
        assert asked == [REFRESH, "rotated", "written anew"]
        assert {form["grant_type"] for form in endpoint.forms} == {"refresh_token"}
        assert "client_secret" not in endpoint.forms[0]


async def test_a_token_is_kept_and_renewed_before_it_ends() -> None:
    """Five minutes before, or a fifth of a short life."""
    async with TokenEndpoint((200, granted("one")), (200, granted("two", expires_in="60"))) as endpoint:
        world, keys = World(), oauth(endpoint.url)
        for _ in range(3):
            assert await world.tokens.get("smarthost", keys) == "one"
            world.clock.advance(1099)
        world.clock.advance(4)
        assert await world.tokens.get("smarthost", keys) == "two"
        world.clock.advance(47)
        await world.tokens.get("smarthost", keys)
        assert len(endpoint.forms) == 2
        world.clock.advance(2)
        await world.tokens.get("smarthost", keys)
        assert len(endpoint.forms) == 3


async def test_many_openings_ask_once() -> None:
    """Single flight; who is cancelled does not take the answer from the others."""
    async with TokenEndpoint() as endpoint:
        world, keys = World(), oauth(endpoint.url)
        endpoint.gate.clear()
        asking = [asyncio.ensure_future(world.tokens.get("smarthost", keys)) for _ in range(5)]
        await endpoint.asked.wait()
        asking[0].cancel()
        endpoint.gate.set()
        assert await asyncio.gather(*asking[1:]) == [ACCESS] * 4
        assert len(endpoint.forms) == 1


async def test_a_failure_stands_for_those_who_ask_at_the_same_time() -> None:
    """All hosts of a route are told by one question, the next probe asks anew."""
    async with TokenEndpoint((503, "busy"), (200, granted())) as endpoint:
        world, keys = World(), oauth(endpoint.url)
        for _ in range(3):
            with pytest.raises(NoToken):
                await world.tokens.get("smarthost", keys)
        assert len(endpoint.forms) == 1
        world.clock.advance(1)
        assert await world.tokens.get("smarthost", keys) == ACCESS


async def test_a_changed_secret_ends_a_failure(tmp_path: Path) -> None:
    """Whoever mends the file at once is not told of the old one."""
    file = tmp_path / "client"
    file.write_text("old")
    async with TokenEndpoint((401, refused("invalid_client")), (200, granted())) as endpoint:
        world, keys = World(), oauth(endpoint.url, client_secret_file=file)
        with pytest.raises(NoToken):
            await world.tokens.get("smarthost", keys)
        file.write_text("newer")
        both = [world.tokens.get("smarthost", keys) for _ in range(2)]
        assert await asyncio.gather(*both) == [ACCESS] * 2
        assert len(endpoint.forms) == 2


async def test_routes_and_configurations_do_not_share() -> None:
    async with TokenEndpoint() as endpoint:
        world = World()
        await world.tokens.get("one", oauth(endpoint.url))
        await world.tokens.get("two", oauth(endpoint.url))
        await world.tokens.get("two", oauth(endpoint.url, client_secret="another"))
        assert len(endpoint.forms) == 3


async def test_a_dropped_token_is_not_used_again() -> None:
    """One that is dropped for an older one stays."""
    async with TokenEndpoint((200, granted("one")), (200, granted("two"))) as endpoint:
        world, keys = World(), oauth(endpoint.url)
        assert await world.tokens.get("smarthost", keys) == "one"
        world.tokens.drop("smarthost", "zero")
        assert await world.tokens.get("smarthost", keys) == "one"
        world.tokens.drop("smarthost", "one")
        assert await world.tokens.get("smarthost", keys) == "two"


DEEP = "[" * 30_000
WRONG: dict[str, tuple[tuple[int, Any], bool, str]] = {  # answer -> is it a fault, words
    "wrong secret": (
        (401, refused("invalid_client", f"AADSTS7000215: not {CLIENT}\x1b[2J")),
        True,
        "127.0.0.1: invalid_client: AADSTS7000215: not ...\\x1b[2J",
    ),
    "expired": ((400, refused("invalid_grant", "x" * 5000)), True, f"127.0.0.1: invalid_grant: {'x' * 300}"),
    "no consent": ((400, refused("unauthorized_client")), True, "unauthorized_client"),
    "scope": ((400, refused("invalid_scope")), True, "invalid_scope"),
    "other": ((400, refused("temporarily_unavailable", "soon")), False, "HTTP 400: temporarily_unavailable"),
    "server": ((500, refused("invalid_client")), False, "HTTP 500: invalid_client"),
    "busy": ((429, "slow down"), False, "HTTP 429, and the answer is no JSON object"),
    "redirect": ((302, ""), False, "HTTP 302"),
    "HTML": ((200, "<html>log in</html>"), False, "HTTP 200, and the answer is no JSON object"),
    "list": ((200, "[]"), False, "no JSON object"),
    "deep": ((200, DEEP), False, "no JSON object"),
    "empty": ((200, {}), False, "no usable access_token"),
    "number": ((200, granted(7)), False, "no usable access_token"),  # type: ignore[arg-type]
    "injected": ((200, granted("a\x01auth=b")), False, "no usable access_token"),
    "long": ((200, granted("a" * 9000)), False, "no usable access_token"),
    "huge": ((200, " " * (MOST + 1)), False, f"over {MOST} octets"),
    "mac": ((200, granted(token_type="mac")), False, "a token of type mac"),
    "error in 200": ((200, refused("access_denied")), False, "access_denied"),
    "odd error": ((400, {"error": ["a"], "error_description": 7}), False, "it does not say why"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_an_endpoint_may_say(name: str) -> None:
    """Faults are those of RFC 6749 section 5.2, the rest is temporary; the text names the endpoint's host and
    no secret, is printable and short."""
    answer, fault, words = WRONG[name]
    async with TokenEndpoint(answer) as endpoint:
        with pytest.raises(NoToken) as caught:
            await World().tokens.get("smarthost", oauth(endpoint.url))
        text = str(caught.value)
        assert (caught.value.fault, words in text) == (fault, True), text
        assert CLIENT not in text and text.isprintable() and len(text) < 350


async def test_an_endpoint_that_is_down_or_silent() -> None:
    """Temporary; the text says what happened."""
    with closing(ReservedPort()) as port, pytest.raises(NoToken) as caught:
        await World().tokens.get("smarthost", oauth(f"http://127.0.0.1:{port.port}/token"))
    assert str(caught.value) == "127.0.0.1: cannot be asked: connection refused"
    assert not caught.value.fault
    with pytest.raises(NoToken, match=r"^nowhere\.invalid: cannot be asked: [A-Z]"):
        await World().tokens.get("smarthost", oauth("https://nowhere.invalid/token"))
    async with TokenEndpoint() as endpoint:
        endpoint.gate.clear()
        with pytest.raises(NoToken, match=r"no answer within 0\.05 s"):
            await fetch(endpoint.url, {}, seconds=0.05)


async def test_a_certificate_nobody_knows() -> None:
    """The form is not sent to somebody else."""
    pair = authority().issue("127.0.0.1")
    async with ScriptedServer(implicit_tls=True, context=pair.server()) as server:
        with pytest.raises(NoToken, match="certificate: unable to get local issuer certificate"):
            await fetch(f"https://127.0.0.1:{server.port}/token", {"client_secret": CLIENT})
        assert all(CLIENT.encode() not in talk.octets for talk in server.conversations)


async def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    """A fault that names the key and the file; nobody is asked."""
    async with TokenEndpoint() as endpoint:
        keys = oauth(endpoint.url, client_secret_file=tmp_path / "none")
        with pytest.raises(NoToken, match=r"client_secret_file .*none: no such file") as caught:
            await World().tokens.get("smarthost", keys)
        assert caught.value.fault and not endpoint.forms


def test_lives() -> None:
    """A number, a text that is one, or nothing to go by."""
    lives = [
        read_answer(200, b'{"access_token": "a", "expires_in": %s}' % value, ()).life for value in VALUES
    ]
    assert lives == [3600, 60, 600, 600, 600, 86400, 600]


VALUES = (b"3600", b'"60"', b'"soon"', b"-1", b"null", b"1e300", b"NaN")


def test_nothing_shows_a_token() -> None:
    token = read_answer(200, b'{"access_token": "a-token", "refresh_token": "b-token"}', ())
    assert "-token" not in repr(token)
    shown = repr(oauth("https://login.example.com/token", refresh_token=REFRESH))
    assert REFRESH not in shown


def test_aiohttp_is_loaded_when_a_token_is_needed_and_not_before() -> None:
    """It takes a third of a second that a command line should not wait for."""
    program = "import sys, relay.delivery.scheduler, relay.delivery.credential, relay.delivery.oauth_endpoint"
    ended = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit('aiohttp' in sys.modules)"], timeout=60, check=False
    )
    assert ended.returncode == 0


# --- logins


def login(url: str) -> Login:
    return Login("relay@example.com", "verified", oauth=oauth(url))


def smarthost(script: Script | None = None, offer: str = "AUTH PLAIN LOGIN XOAUTH2") -> ScriptedServer:
    context = authority().issue("mx.example.net").server()
    logins = Logins("relay@example.com", ACCESS)
    return ScriptedServer(script, (*WITH_TLS, offer), context=context, logins=logins)


@pytest.mark.parametrize("length", [20, 240, 241, 1800, 8000])
def test_xoauth2(run: Run, tmp_path: Path, length: int) -> None:
    """With the command where that fits in 512 octets, else when asked (RFC 4954 section 4)."""

    async def scenario() -> None:
        token = "t" * length
        ca = authority().write(tmp_path)
        async with (
            TokenEndpoint((200, granted(token))) as endpoint,
            smarthost({"AUTH": "334 "} if length > 400 else {}) as hop,
            Opener(hop.port) as opener,
        ):
            assert hop.logins is not None
            hop.logins.secret = token
            hop.logins._mechanism = "XOAUTH2"
            await deliver(await opener.open("verify", login=login(endpoint.url), ca_file=ca))
            lines = [line for line in hop.conversations[0].commands if line.startswith(b"AUTH")]
            assert max(map(len, lines)) <= 510
            assert hop.logins.tried == [("XOAUTH2", "relay@example.com", token)]
            await opener.open("verify", login=login(endpoint.url), ca_file=ca)
            assert len(endpoint.forms) == 1

    run(scenario())


def test_a_refused_token_is_not_used_again(run: Run, tmp_path: Path) -> None:
    """The error is answered with an empty line and its status shown; PLAIN is not tried with a token; the
    next probe comes with a new one."""

    async def scenario() -> None:
        ca = authority().write(tmp_path)
        answers = (200, granted("revoked")), (200, granted())
        async with TokenEndpoint(*answers) as endpoint, smarthost() as hop, Opener(hop.port) as opener:
            failure = await opener.fail("verify", login=login(endpoint.url), ca_file=ca)
            assert facts(failure) == ("auth", "4.7.8", "auth")
            assert failure.reply.text.endswith("(status 401)")
            assert "revoked" not in str(failure)
            assert hop.conversations[0].commands[-1] == b""
            await deliver(await opener.open("verify", login=login(endpoint.url), ca_file=ca))
            assert hop.logins is not None
            assert [mechanism for mechanism, *_ in hop.logins.tried] == ["XOAUTH2"] * 2

    run(scenario())


def test_a_host_without_xoauth2(run: Run, tmp_path: Path) -> None:
    """A token is no password."""

    async def scenario() -> None:
        offer, ca = "AUTH PLAIN LOGIN", authority().write(tmp_path)
        async with TokenEndpoint() as endpoint, smarthost(offer=offer) as hop, Opener(hop.port) as opener:
            failure = await opener.fail("verify", login=login(endpoint.url), ca_file=ca)
            assert "AUTH LOGIN PLAIN; a login needs XOAUTH2" in failure.reply.text
            assert hop.logins is not None and not hop.logins.tried

    run(scenario())


@pytest.mark.parametrize(
    ("error", "fault", "enhanced"), [("invalid_grant", True, "4.7.8"), ("", False, "4.7.0")]
)
def test_without_a_token_nobody_is_connected_to(
    run: Run, tmp_path: Path, error: str, fault: bool, enhanced: str
) -> None:
    """The reason is the token's; the host is not to blame and not counted as a session."""

    async def scenario() -> None:
        answer = 400, refused(error)
        async with TokenEndpoint(answer) as endpoint, smarthost() as hop, Opener(hop.port) as opener:
            failure = await opener.fail("verify", login=login(endpoint.url))
            assert (*facts(failure), failure.fault) == ("auth", enhanced, "token", fault)
            assert not failure.greeted and not hop.conversations

    run(scenario())


def test_a_password_file_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    """A fault that names key and file, and nobody is connected to; it is read again when it is there."""

    async def scenario() -> None:
        file, ca = tmp_path / "password", authority().write(tmp_path)
        async with smarthost() as hop, Opener(hop.port) as opener:
            assert hop.logins is not None
            hop.logins = Logins("relay", "correct horse")
            way = Login("relay", "verified", password_file=file)
            failure = await opener.fail("verify", login=way, ca_file=ca)
            assert (*facts(failure), failure.fault) == ("auth", "4.7.8", "auth", True)
            assert failure.reply.text == f"password_file {file}: no such file or directory"
            assert not hop.conversations
            file.write_text("wrong\n")
            assert (await opener.fail("verify", login=way, ca_file=ca)).reply.code == 535
            file.write_text("correct horse\n")
            await deliver(await opener.open("verify", login=way, ca_file=ca))
            other = replace(way, password_file=None, password=SecretStr("correct horse"))
            await deliver(await opener.open("verify", login=other, ca_file=ca))

    run(scenario())
