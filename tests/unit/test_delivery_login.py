"""Logging in at a next hop: the mechanism, the level of the session, the dialogue, and that nothing leaks."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.certificates import authority
from fakes.connected import short
from fakes.logins import SECRET, Logins, forms
from fakes.loops import LOOPS, Run, running
from fakes.opener import Opener, deliver, facts
from fakes.scripted_server import DROP, EXTENSIONS, STALL, Answer, Script, ScriptedServer
from pydantic import SecretStr

from relay.config.model import TlsPolicy
from relay.delivery.login import Credential, choose, unusable
from relay.delivery.timeouts import Timeouts
from relay.delivery.trust import Trust
from relay.routing.login import Level, Login

LOGIN = Login("relay", "verified", SecretStr(SECRET))
ALL = "AUTH CRAM-MD5 LOGIN PLAIN XOAUTH2 GSSAPI"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return authority().write(tmp_path)


def server(offer: str = ALL, script: Script | None = None, **options: object) -> ScriptedServer:
    """A smarthost that lets "relay" in; its certificate is in order."""
    names = (*EXTENSIONS, "STARTTLS", *([offer] if offer else []))
    context = authority().issue("mx.example.net", "127.0.0.1").server()
    return ScriptedServer(script, names, context=context, logins=Logins(), **options)  # type: ignore[arg-type]


def tried(hop: ScriptedServer) -> list[str]:
    assert hop.logins is not None
    return [mechanism for mechanism, _, _ in hop.logins.tried]


@pytest.mark.parametrize(
    ("offer", "mechanism"),
    [
        (ALL, "PLAIN"),
        ("AUTH CRAM-MD5 LOGIN", "LOGIN"),
        ("AUTH cram-md5", "CRAM-MD5"),
        ("AUTH=LOGIN", "LOGIN"),
    ],
)
def test_one_mechanism(run: Run, ca: Path, offer: str, mechanism: str) -> None:
    """Over TLS: PLAIN, then LOGIN, then CRAM-MD5; and a session comes of it."""

    async def scenario() -> None:
        async with server(offer) as hop, Opener(hop.port) as opener:
            connection = await opener.open("verify", login=LOGIN, ca_file=ca)
            await deliver(connection)
            assert tried(hop) == [mechanism]
            assert opener.events.stages == ["connect", "tls", "auth"]

    run(scenario())


def test_smtps(run: Run, ca: Path) -> None:
    """TLS from the first octet is as good."""

    async def scenario() -> None:
        async with server(implicit_tls=True) as hop, Opener(hop.port) as opener:
            await deliver(await opener.open("verify", login=LOGIN, ca_file=ca, implicit=True))
            assert tried(hop) == ["PLAIN"]

    run(scenario())


def test_in_clear(run: Run) -> None:
    """Allowed by name; the mechanism that does not show the password comes first."""

    async def scenario() -> None:
        async with server() as hop, Opener(hop.port) as opener:
            await deliver(await opener.open("none", login=replace(LOGIN, over="clear")))
            assert tried(hop) == ["CRAM-MD5"]
            assert SECRET.encode() not in hop.conversations[0].octets

    run(scenario())


def test_a_wrong_password_is_tried_once(run: Run, ca: Path) -> None:
    """535: a fault of the route. No other mechanism is tried: accounts get locked."""

    async def scenario() -> None:
        async with server() as hop, Opener(hop.port) as opener:
            failure = await opener.fail("verify", login=replace(LOGIN, password=SecretStr("x")), ca_file=ca)
            assert facts(failure) == ("auth", "4.7.8", "auth")
            assert (failure.reply.code, failure.fault, failure.greeted) == (535, True, True)
            assert len(tried(hop)) == 1
            assert all(b"MAIL" not in talk.octets for talk in hop.conversations)

    run(scenario())


@pytest.mark.parametrize(
    ("offer", "said"), [("", "no AUTH"), ("AUTH GSSAPI NTLM", "AUTH GSSAPI NTLM"), ("AUTH", "no AUTH")]
)
def test_no_mechanism(run: Run, ca: Path, offer: str, said: str) -> None:
    """A fault of the route that says what the host offers."""

    async def scenario() -> None:
        async with server(offer) as hop, Opener(hop.port) as opener:
            failure = await opener.fail("verify", login=LOGIN, ca_file=ca)
            assert (*facts(failure), failure.fault) == ("auth", "4.7.4", "auth", True)
            assert f"the host offers {said};" in failure.reply.text
            assert not tried(hop)

    run(scenario())


def test_what_is_offered_before_tls_does_not_count(run: Run, ca: Path) -> None:
    """RFC 3207 section 4.2: AUTH is looked for in the EHLO reply inside TLS."""

    async def scenario() -> None:
        inside = f"250-mx.example.net\n250 {ALL}"
        first = "250-mx.example.net\n250-AUTH CRAM-MD5\n250 STARTTLS"
        async with server(script={"EHLO#1": first, "EHLO#2": inside}) as hop, Opener(hop.port) as opener:
            await opener.open("verify", login=LOGIN, ca_file=ca)
            assert tried(hop) == ["PLAIN"]

    run(scenario())


LEVELS: list[tuple[TlsPolicy, Level, bool, str]] = [  # tls, login_over, what is offered, what becomes of it
    ("verify", "verified", True, "in"),
    ("require", "verified", True, "tls"),
    ("require", "encrypted", True, "in"),
    ("opportunistic", "verified", True, "tls"),
    ("opportunistic", "encrypted", True, "in"),
    ("opportunistic", "clear", True, "in"),
    ("none", "verified", True, "tls"),
    ("none", "encrypted", True, "tls"),
    ("none", "clear", True, "in"),
    ("verify", "verified", False, "tls"),
    ("verify", "clear", False, "tls"),
    ("require", "encrypted", False, "tls"),
    ("opportunistic", "verified", False, "tls"),
    ("opportunistic", "encrypted", False, "tls"),
    ("opportunistic", "clear", False, "in"),
]


@pytest.mark.parametrize(("tls", "over", "offered", "end"), LEVELS)
def test_the_level_of_the_session(
    run: Run, ca: Path, tls: TlsPolicy, over: Level, offered: bool, end: str
) -> None:
    """What the session is, not what it should be, decides; below login_over nothing of the secret is sent."""

    async def scenario() -> None:
        async with server() as hop, Opener(hop.port) as opener:
            if not offered:
                hop.extensions = (*EXTENSIONS, ALL)
            login = replace(LOGIN, over=over)
            if end == "in":
                await deliver(await opener.open(tls, login=login, ca_file=ca))
                assert len(tried(hop)) == 1
            else:
                failure = await opener.fail(tls, login=login, ca_file=ca)
                assert (failure.kind, failure.fault) == (end, True)
                assert not tried(hop)
            if over != "clear":
                assert not leaks(hop)

    run(scenario())


def leaks(hop: ScriptedServer) -> list[bytes]:
    """Forms of the secret in what was sent without TLS, over all connections."""
    return [form for talk in hop.conversations for form in forms(SECRET) if form in talk.clear]


def test_a_context_that_verifies_nothing_is_no_verified_session(run: Run, ca: Path) -> None:
    """The check before AUTH does not believe the policy."""

    async def scenario() -> None:
        async with server() as hop, Opener(hop.port) as opener:
            opener.opening.tls_context = lambda verify, ca_file: Trust().context(False)
            failure = await opener.fail("verify", login=LOGIN, ca_file=ca)
            assert facts(failure) == ("auth", "4.7.11", "tls")
            assert not tried(hop)

    run(scenario())


BROKEN: dict[str, Answer] = {
    "454": "454 4.7.0 not now",
    "554": "554 5.7.3 no",
    "421": "421 4.3.2 bye",
    "EOF": DROP,
    "EOF after 220": ("220 go", DROP),
    "not TLS": ("220 go", b"250 no handshake\r\n", DROP),
    "ahead": "220 go\n235 2.7.0 you are in",
}


@pytest.mark.parametrize("over", ["verified", "encrypted"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_fall_back_to_clear_does_not_log_in(run: Run, over: Level, name: str) -> None:
    """Opportunistic TLS fails in every way there is: no octet of the secret is seen in clear, nor is a second
    connection made for it."""

    async def scenario() -> None:
        async with server(script={"STARTTLS": BROKEN[name]}) as hop, Opener(hop.port) as opener:
            login = replace(LOGIN, over=over)
            if (name, over) == ("ahead", "encrypted"):  # dropped, and the handshake is good
                await opener.open("opportunistic", login=login)
            else:
                for _ in range(2):
                    failure = await opener.fail("opportunistic", login=login)
                    assert (failure.kind, failure.fault) == ("tls", True)
                assert not tried(hop)
            assert not leaks(hop)
            assert len(hop.conversations) <= 2

    run(scenario())


DIALOGUES: dict[str, tuple[Script, tuple[str, str, str], int]] = {  # (stage, enhanced, kind), code
    "454": ({"AUTH": "454 4.7.0 temporary failure"}, ("auth", "4.7.0", "auth"), 454),
    "421": ({"AUTH": "421 4.7.0 too many"}, ("auth", "4.7.0", "auth"), 421),
    "535": ({"AUTH": "535 5.7.8 no"}, ("auth", "4.7.8", "auth"), 535),
    "534": ({"AUTH": "534 5.7.9 application password required"}, ("auth", "4.7.8", "auth"), 534),
    "504": ({"AUTH": "504 5.5.4 no such mechanism"}, ("auth", "4.7.8", "auth"), 504),
    "334": ({"AUTH": "334 ", "RESPONSE": "235 ok"}, ("auth", "4.7.0", "auth"), 0),
    "250": ({"AUTH": "199 2.0.0 what"}, ("auth", "4.7.0", "auth"), 0),
    "EOF": ({"AUTH": DROP}, ("auth", "4.7.0", "auth"), 0),
    "silent": ({"AUTH": STALL}, ("auth", "4.7.0", "auth"), 0),
    "nonsense": ({"AUTH": b"what?\r\n"}, ("auth", "4.7.0", "auth"), 0),
    "talks ahead": ({"AUTH": b"235 ok\r\n250 ok\r\n"}, ("auth", "4.7.0", "auth"), 0),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_dialogue_goes_wrong(run: Run, ca: Path, name: str) -> None:
    """Row AUTH: deferred, the next host, and this host is left in peace for a while."""

    async def scenario() -> None:
        script, expected, code = DIALOGUES[name]
        timeouts = short("auth") if name == "silent" else Timeouts()
        async with server("AUTH PLAIN", script) as hop, Opener(hop.port, timeouts=timeouts) as opener:
            failure = await opener.fail("verify", login=LOGIN, ca_file=ca)
            assert (facts(failure), failure.reply.code) == (expected, code)
            assert (failure.fault, failure.passing) == (True, code // 100 == 4)

    run(scenario())


@pytest.mark.parametrize("challenge", ["334 %%%", "334 \u00e4", "334 "])
def test_a_challenge_that_is_none(run: Run, ca: Path, challenge: str) -> None:
    """CRAM-MD5 with what is not base64: nonsense, or an answer that is refused; never a bug."""

    async def scenario() -> None:
        async with server("AUTH CRAM-MD5", {"AUTH": challenge}) as hop, Opener(hop.port) as opener:
            failure = await opener.fail("verify", login=LOGIN, ca_file=ca)
            assert (failure.kind, failure.reply.enhanced[0]) == ("auth", "4")

    run(scenario())


ECHOES = ["AUTH PLAIN", "AUTH LOGIN", "AUTH CRAM-MD5"]


@pytest.mark.parametrize("cut", [None, 40])
@pytest.mark.parametrize("code", ["535 5.7.8", "oops:"])
@pytest.mark.parametrize("offer", ECHOES)
def test_a_host_that_repeats_what_it_was_told(
    run: Run, ca: Path, offer: str, code: str, cut: int | None
) -> None:
    """What it says goes to logs and to `relay explain`: the secret does not, whole or cut, nor in a
    traceback, be it a reply or not."""

    async def scenario() -> None:
        async with server(offer) as hop, Opener(hop.port) as opener:
            hop.logins = Parrot(code, cut)
            failure = await opener.fail("verify", login=LOGIN, ca_file=ca)
            told = "".join(traceback.format_exception(failure)) + repr(vars(failure)) + str(failure)
            assert "cannot do" in failure.reply.text
            for form in forms(SECRET):
                assert form.decode() not in told
                assert form.decode()[:12] not in told

    run(scenario())


class Parrot(Logins):
    """Repeats the last line of the dialogue (so many characters of it), and what it holds, behind `code`."""

    def __init__(self, code: str, cut: int | None) -> None:
        super().__init__()
        self.code, self.cut = code, cut

    def begin(self, command: str) -> str:
        reply = super().begin(command)
        return reply if reply.startswith("334") else self._repeat(command)

    def respond(self, line: str) -> str:
        reply = super().respond(line)
        return reply if reply.startswith("334") else self._repeat(line)

    def _repeat(self, line: str) -> str:
        return f'{self.code} cannot do "{line[: self.cut]}" as {self.tried[-1][2]}'


def test_nothing_shows_a_secret() -> None:
    """Values that hold one are printed without it."""
    shown = repr(LOGIN) + repr(Credential("relay", SECRET)) + str(LOGIN) + repr([Credential("relay", SECRET)])
    assert "relay" in shown and SECRET not in shown


def test_choice() -> None:
    """With a token there is one mechanism; the words for a person name all that was offered."""
    everything = ["plain", "login", "cram-md5", "xoauth2"]
    assert choose(everything, True, "encrypted") == "xoauth2"
    assert choose(everything, False, "clear") == "cram-md5"
    assert choose(["plain", "login"], False, "clear") == "plain"
    assert choose(["plain"], True, "verified") == ""
    assert unusable(["ntlm", "plain"], True) == "the host offers AUTH NTLM PLAIN; a login needs XOAUTH2"
