"""No credential goes over a wire in clear, whatever is wrong with the TLS of the next hop."""

from __future__ import annotations

import asyncio
import json
import smtplib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fakes.certificates import Pair, authority, self_signed
from fakes.logins import Logins
from fakes.relay_process import RelayProcess
from fakes.scripted_server import DROP, EXTENSIONS, Script, ScriptedServer
from fakes.tap import Tap, leaks
from fakes.token_endpoint import ACCESS, CLIENT, TokenEndpoint

OFFERS = ("AUTH PLAIN LOGIN", "AUTH LOGIN", "AUTH PLAIN")
CERTIFICATES = ("good", "self-signed", "wrong-name", "expired")
REFUSALS: dict[str, Script] = {
    "not-offered": {},
    "put-off": {"STARTTLS": "454 4.7.0 TLS not available"},
    "refused": {"STARTTLS": "554 5.7.3 no TLS for you"},
    "cut": {"STARTTLS": DROP},
}
POLICIES = {"opportunistic": "encrypted", "require": "encrypted", "verify": "verified"}


@dataclass(frozen=True)
class Case:
    """A route that logs in: what is wrong with its server, the policy, how the login may go."""

    fault: str
    tls: str
    login_over: str
    implicit: bool = False
    oauth: bool = False

    @property
    def name(self) -> str:
        scheme, kind = "smtps" if self.implicit else "smtp", "token" if self.oauth else "password"
        return f"{scheme}-{self.fault}-{self.tls}-{kind}"

    @property
    def secret(self) -> str:
        return ACCESS if self.oauth else f"the secret of {self.name}"

    @property
    def arrives(self) -> bool:
        """Over TLS, with a certificate that the policy takes; without TLS nothing does."""
        return self.fault == "good" or (self.fault in CERTIFICATES and self.tls != "verify")

    @property
    def extensions(self) -> tuple[str, ...]:
        """AUTH is offered before and after STARTTLS: the server tempts."""
        offers = "AUTH XOAUTH2" if self.oauth else OFFERS[sum(self.name.encode()) % len(OFFERS)]
        return (*EXTENSIONS, offers, *(() if self.fault == "not-offered" else ("STARTTLS",)))

    @property
    def certificate(self) -> Pair:
        if self.fault == "self-signed":
            return self_signed("127.0.0.1")
        name = "other.example" if self.fault == "wrong-name" else "127.0.0.1"
        return authority().issue(name, expired=self.fault == "expired")

    def server(self) -> ScriptedServer:
        return ScriptedServer(
            REFUSALS.get(self.fault), self.extensions, implicit_tls=self.implicit,
            context=self.certificate.server(), logins=Logins("relay", self.secret),
        )  # fmt: skip

    def route(self, port: int, token_url: str, directory: Path) -> dict[str, Any]:
        secret = directory / self.name
        secret.write_text(CLIENT if self.oauth else self.secret)
        oauth = {"token_url": token_url, "client_id": "app", "client_secret_file": str(secret)}
        login = {"oauth": oauth} if self.oauth else {"password_file": str(secret)}
        via = f"{'smtps://' if self.implicit else ''}127.0.0.1:{port}"
        trust = {"ca_file": str(directory / "ca.pem")} if self.tls == "verify" else {}
        return {
            "name": self.name, "to": [f"{self.name}.example"], "via": [via], "tls": self.tls,
            "login_over": self.login_over, "username": "relay", **login, **trust,
        }  # fmt: skip


CASES = [
    *(Case(fault, *policy) for fault in (*CERTIFICATES, *REFUSALS) for policy in POLICIES.items()),
    *(Case(fault, *policy, implicit=True) for fault in CERTIFICATES for policy in POLICIES.items()),
    *(
        Case(fault, *policy, oauth=True)
        for fault in ("good", "self-signed", "put-off", "not-offered")
        for policy in POLICIES.items()
    ),
]
ALLOWED = [
    Case("good", "none", "clear"),
    Case("put-off", "opportunistic", "clear"),
    Case("put-off", "opportunistic", "clear", oauth=True),
]


@asynccontextmanager
async def tapped(cases: list[Case], directory: Path) -> AsyncIterator[tuple[RelayProcess, dict[str, Tap]]]:
    """A relay with a route for each case, and the taps before their servers."""
    authority().write(directory)
    async with AsyncExitStack() as stack:
        taps = {}
        endpoint = await stack.enter_async_context(TokenEndpoint())
        for case in cases:
            server = await stack.enter_async_context(case.server())
            taps[case.name] = stack.enter_context(Tap(server.port))
        routes = [case.route(taps[case.name].port, endpoint.url, directory) for case in cases]
        relay = RelayProcess(directory, {"routes": routes})
        await asyncio.to_thread(relay.start)
        try:
            yield relay, taps
        finally:
            relay.__exit__()


def hand_in(relay: RelayProcess, cases: list[Case]) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=20) as client:
        client.sendmail("app@sender.example", [f"a@{case.name}.example" for case in cases], b"x\r\n")


def reasons(relay: RelayProcess) -> dict[str, str]:
    """Route -> why its lane is suspended, for those that have mail."""
    said = relay.command("queue", "lanes", "--json")
    lanes = [json.loads(line) for line in said.stdout.splitlines()]
    return {lane["lane"].removeprefix("route:"): lane["lane_state"].get("reason", "") for lane in lanes}


async def test_no_credential_in_clear(tmp_path: Path) -> None:
    """Each fault under each policy: what may go goes, the rest waits for TLS, and no tap has a secret."""
    async with tapped(CASES, tmp_path) as (relay, taps):
        await asyncio.to_thread(hand_in, relay, CASES)
        waits = {case.name: "tls" for case in CASES if not case.arrives}
        arrives = len(CASES) - len(waits)

        def settled() -> bool:
            delivered = relay.metric("relay_deliveries_total", result="delivered")
            return delivered == arrives and relay.metric("relay_destination_suspended") == len(waits)

        await asyncio.to_thread(relay.wait_until, settled, "settled", 30)
        assert waits == await asyncio.to_thread(reasons, relay)
        assert relay.metric("relay_deliveries_total") == arrives
        assert relay.metric("relay_route_up") == arrives
    for case in CASES:
        seen = taps[case.name].sent
        assert seen.startswith(b"\x16\x03" if case.implicit else b"EHLO ")
        assert (b"STARTTLS\r\n" in seen) is not (case.implicit or case.fault == "not-offered")
        assert b"AUTH" not in seen
        assert {other.name: leaks(seen, other.secret) for other in CASES if leaks(seen, other.secret)} == {}


async def test_a_credential_in_clear_is_seen(tmp_path: Path) -> None:
    """Where the configuration allows it by name a login goes in clear, and the taps do see it."""
    async with tapped(ALLOWED, tmp_path) as (relay, taps):
        await asyncio.to_thread(hand_in, relay, ALLOWED)
        await asyncio.to_thread(relay.wait_until, lambda: relay.waiting() == 0, "empty")
    for case in ALLOWED:
        assert leaks(taps[case.name].sent, case.secret)
