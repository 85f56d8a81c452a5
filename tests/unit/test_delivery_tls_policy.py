"""Bad certificates and broken STARTTLS under each policy: the verdict of the table, and no secret in clear.

The table of the design, row STARTTLS: none does not ask, opportunistic goes on in clear (but takes any
certificate), require takes any certificate and nothing in clear, verify takes only a good one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.certificates import Authority, Pair, authority, self_signed
from fakes.logins import SECRET, Logins, forms
from fakes.loops import LOOPS, Run, running
from fakes.opener import WITH_TLS, Opener, deliver, facts
from fakes.scripted_server import DROP, EXTENSIONS, RESET, Script, ScriptedServer
from pydantic import SecretStr

from relay.config.model import TlsPolicy
from relay.routing.login import Level, Login

POLICIES: tuple[TlsPolicy, ...] = ("none", "opportunistic", "require", "verify")
NAME = "mx.example.net"
FAULTS = {"no STARTTLS": "4.7.4", "454": "4.7.0", "554": "4.7.4"}  # enhanced codes; else 4.7.5


def pair(case: str) -> Pair:
    match case:
        case "self-signed":
            return self_signed(NAME)
        case "wrong name":
            return authority().issue("other.example.net")
        case "expired":
            return authority().issue(NAME, expired=True)
        case "another authority":
            return Authority().issue(NAME)
    return authority().issue(NAME)


BAD = ("self-signed", "wrong name", "expired", "another authority")
BROKEN: dict[str, Script] = {
    "no STARTTLS": {},
    "454": {"STARTTLS": "454 4.7.0 not now"},
    "554": {"STARTTLS": "554 5.7.3 never"},
    "EOF in the handshake": {"STARTTLS": ("220 go", DROP)},
    "RST in the handshake": {"STARTTLS": ("220 go", RESET)},
    "no TLS": {"STARTTLS": ("220 go", b"220 this is no handshake\r\n", DROP)},
}
# what becomes of a session: "TLS", "clear", or a fault
ENDS = {
    "good": {"none": "clear", "opportunistic": "TLS", "require": "TLS", "verify": "TLS"},
    "bad": {"none": "clear", "opportunistic": "TLS", "require": "TLS", "verify": "fault"},
    "broken": {"none": "clear", "opportunistic": "clear", "require": "fault", "verify": "fault"},
}
WORDS = {
    "self-signed": "certificate: self-signed certificate",
    "wrong name": "certificate: Hostname mismatch, certificate is not valid for 'mx.example.net'.",
    "expired": "certificate: certificate has expired",
    "another authority": "certificate: unable to get local issuer certificate",
    "no STARTTLS": "the host does not offer STARTTLS",
    "454": "not now",
    "554": "never",
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return authority().write(tmp_path)


def server(case: str) -> ScriptedServer:
    offered = EXTENSIONS if case == "no STARTTLS" else WITH_TLS
    names = (*offered, "AUTH PLAIN LOGIN CRAM-MD5")
    return ScriptedServer(BROKEN.get(case), names, context=pair(case).server(), logins=Logins())


def kind(case: str) -> str:
    return "broken" if case in BROKEN else "bad" if case in BAD else "good"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", ["good", *BAD, *BROKEN])
def test_a_session(run: Run, ca: Path, case: str, policy: TlsPolicy) -> None:
    """Without a login: in TLS, in clear, or a fault of the route that says what is wrong, and no mail."""

    async def scenario() -> None:
        async with server(case) as hop, Opener(hop.port) as opener:
            end = ENDS[kind(case)][policy]
            if end != "fault":
                connection = await opener.open(policy, ca_file=ca)
                assert bool(connection.secure) is (end == "TLS")
                await deliver(connection)
                return
            failure = await opener.fail(policy, ca_file=ca)
            assert facts(failure) == ("starttls", FAULTS.get(case, "4.7.5"), "tls")
            assert failure.fault and WORDS.get(case, "TLS handshake failed") in failure.reply.text
            assert all(b"MAIL" not in talk.octets for talk in hop.conversations)

    run(scenario())


@pytest.mark.parametrize("over", ["verified", "encrypted", "clear"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", ["good", *BAD, *BROKEN])
def test_a_login(run: Run, ca: Path, case: str, policy: TlsPolicy, over: Level) -> None:
    """With a login: only over what login_over asks for, else a fault; a capture of all that was sent without
    TLS has no form of the secret, unless login_over says clear by name."""

    async def scenario() -> None:
        login = Login("relay", over, SecretStr(SECRET))
        async with server(case) as hop, Opener(hop.port) as opener:
            end = ENDS[kind(case)][policy]
            real = {"TLS": "verified" if policy == "verify" else "encrypted"}.get(end, end)
            allowed = {"verified": ("verified",), "encrypted": ("verified", "encrypted")}
            if real != "fault" and real in allowed.get(over, (real,)):
                await deliver(await opener.open(policy, ca_file=ca, login=login))
                assert hop.logins is not None and len(hop.logins.tried) == 1
            else:
                failure = await opener.fail(policy, ca_file=ca, login=login)
                assert (failure.kind, failure.fault) == ("tls", True)
                assert hop.logins is not None and not hop.logins.tried
            if over != "clear":
                clear = b"".join(talk.clear for talk in hop.conversations)
                assert b"EHLO" in clear
                assert not [form for form in forms(SECRET) if form in clear]

    run(scenario())
