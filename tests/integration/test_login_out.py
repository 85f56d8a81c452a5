"""A relay that cannot log in: its mail waits, everybody is told, nothing bounces, and it goes when mended."""

from __future__ import annotations

import asyncio
import json
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fakes.certificates import authority
from fakes.logins import SECRET, Logins
from fakes.relay_process import RelayProcess
from fakes.scripted_server import EXTENSIONS, ScriptedServer
from fakes.token_endpoint import CLIENT, TokenEndpoint, granted, refused

from relay.exposure import exposed

LETTER = b"From: <app@corp.example>\r\nSubject: x\r\n\r\nhello\r\n"


def smarthost(offer: str = "AUTH PLAIN LOGIN", secret: str = SECRET) -> ScriptedServer:
    context = authority().issue("127.0.0.1").server()
    names = (*EXTENSIONS, "STARTTLS", offer)
    return ScriptedServer({}, names, context=context, logins=Logins("relay", secret))


@asynccontextmanager
async def running(tmp_path: Path, hosts: list[ScriptedServer], **login: Any) -> AsyncIterator[RelayProcess]:
    """A relay whose every mail goes to these hosts, in this order; it ends with the test."""
    route = {
        "name": "smarthost",
        "via": [f"127.0.0.1:{host.port}" for host in hosts],
        "ca_file": str(authority().write(tmp_path)),
        "username": "relay",
        **login,
    }
    relay = RelayProcess(tmp_path, {"routes": [route]})
    await asyncio.to_thread(relay.__enter__)
    try:
        yield relay
    finally:
        await asyncio.to_thread(relay.__exit__)


def send(relay: RelayProcess, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=20) as client:
        for recipient in recipients:
            client.sendmail("app@corp.example", [recipient], LETTER)


def faults(relay: RelayProcess, reason: str) -> float:
    return relay.metric("relay_route_fault", route="smarthost", reason=reason)


def told(relay: RelayProcess, *command: str) -> str:
    """What a person reads."""
    result = relay.command(*command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def nothing_happened(relay: RelayProcess) -> None:
    """Promise 5: no attempt, no bounce."""
    assert {entry["attempts"] for entry in relay.listed()} == {0}
    assert relay.metric("relay_delivery_attempts_total") == 0
    assert relay.metric("relay_dsn_total") == 0
    assert relay.metric("relay_deliveries_total", result="bounced") == 0


async def arrived(hosts: list[ScriptedServer], count: int, relay: RelayProcess) -> None:
    def all_there() -> bool:
        return sum(len(host.contents) for host in hosts) == count

    await asyncio.to_thread(relay.wait_until, all_there, f"rid of {count}", 15)


async def test_a_wrong_password(tmp_path: Path) -> None:
    """It waits with the first host at fault; metric, explain, show, lanes and status say who, since when and
    what was said. The file mended, it goes within seconds and without a restart."""
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    async with smarthost() as host, running(tmp_path, [host], password_file=str(secret)) as relay:
        await asyncio.to_thread(send, relay, "a@example.org", "b@example.org")
        await asyncio.to_thread(relay.wait_until, lambda: faults(relay, "auth") == 1, "at fault")
        await asyncio.to_thread(look, relay, host)
        secret.write_text(SECRET)
        await arrived([host], 2, relay)
        await asyncio.to_thread(relay.wait_until, lambda: faults(relay, "auth") == 0, "free of faults")
        log = await asyncio.to_thread(relay.log)
    assert host.logins is not None
    assert [claimed for *_, claimed in host.logins.tried] == ["wrong", SECRET]
    assert (log.count("at fault (auth)"), log.count("no longer at fault")) == (1, 1)
    assert SECRET not in log and "wrong\n" not in log
    assert log.count(f"everybody on this machine can read {secret}") == int(exposed(secret))


def look(relay: RelayProcess, host: ScriptedServer) -> None:
    nothing_happened(relay)
    assert relay.metric("relay_route_up", route="smarthost") == 0
    (first, _) = relay.listed()
    where = f"127.0.0.1:{host.port} refuses our user name or password: 535 "
    secret = f"the password of relay is in {relay.directory}/password, read again when it changes"
    for command in (
        ("explain", "a@example.org"),
        ("queue", "show", first["queue_id"]),
        ("queue", "lanes"),
        ("queue", "status"),
    ):
        text = told(relay, *command)
        assert text.count(where) == text.count(secret) == 1 and " again in " in text, text
    assert f"relay, by password from {relay.directory}/p" in told(relay, "explain", "a@example.org")
    assert f"s, see {relay.directory}/password: 535 " in relay.log()
    facts = json.loads(told(relay, "explain", "--json", "a@example.org"))
    (fault,) = facts["lane_state"]["faults"]
    assert (fault["route"], fault["reason"]) == ("smarthost", "auth")


async def test_one_host_of_two(tmp_path: Path) -> None:
    """Mail goes by the other; the fault is shown all the same, and `queue retry` has it asked again."""
    async with smarthost(secret="another") as first, smarthost() as second:
        hosts = [first, second]
        async with running(tmp_path, hosts, password=SECRET) as relay:
            await asyncio.to_thread(send, relay, "a@example.org", "b@example.org")
            await arrived([second], 2, relay)
            assert await asyncio.to_thread(faults, relay, "auth") == 1
            assert relay.metric("relay_route_up", route="smarthost") == 1
            text = await asyncio.to_thread(told, relay, "queue", "status")
            assert f":{first.port} refuses our user name or password: 535 " in text and "(at fault s" in text
            assert "the password of relay stands in the configuration of route smarthost; reload" in text
            assert first.logins is not None and len(first.logins.tried) == 1
            first.logins.secret = SECRET
            await asyncio.to_thread(told, relay, "queue", "retry", "--all")
            await asyncio.to_thread(relay.wait_until, lambda: faults(relay, "auth") == 0, "free of faults")


async def test_xoauth2(tmp_path: Path) -> None:
    """The endpoint refuses the client: it waits, the reason is the token. With the secret mended a token
    comes, and with it the mail goes; the token is used again."""
    secret = tmp_path / "client"
    secret.write_text("expired")
    secret.chmod(0o600)
    answers = (401, refused("invalid_client", "the secret expired is wrong")), (200, granted("a-token"))
    async with TokenEndpoint(*answers) as endpoint, smarthost("AUTH XOAUTH2", "a-token") as host:
        oauth = {"token_url": endpoint.url, "client_id": "app", "client_secret_file": str(secret)}
        async with running(tmp_path, [host], oauth=oauth) as relay:
            await asyncio.to_thread(send, relay, "a@example.org")
            await asyncio.to_thread(relay.wait_until, lambda: faults(relay, "token") == 1, "at fault")
            text = await asyncio.to_thread(told, relay, "explain", "a@example.org")
            assert "127.0.0.1: invalid_client: the secret ... is wrong" in text
            assert not host.conversations
            await asyncio.to_thread(nothing_happened, relay)
            secret.write_text(CLIENT)
            await arrived([host], 1, relay)
            assert await asyncio.to_thread(faults, relay, "token") == 0
            await asyncio.to_thread(send, relay, "b@example.org")
            await arrived([host], 2, relay)
            log = await asyncio.to_thread(relay.log)
    assert [form["client_secret"] for form in endpoint.forms] == ["expired", CLIENT]
    assert CLIENT not in log and "a-token" not in log
