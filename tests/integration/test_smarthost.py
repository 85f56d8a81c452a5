"""A Postfix that demands verified TLS and a login: mail arrives, or waits for the right password."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.certificates import authority
from fakes.clients import CLIENTS, MESSAGE
from fakes.nsd import nsd
from fakes.smarthost import Smarthost
from fakes.submission import PASSWORD as CLIENT_PASSWORD
from fakes.submission import SubmissionRelay
from fakes.tap import Dump, leaks

PASSWORD = "the smarthost's s3cret"
WRONG = "yesterday's s3cret"
NAME = "mx.smarthost.test"


@pytest.fixture(scope="module")
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nsd(tmp_path_factory.mktemp("dns"), "smarthost.test", "mx IN A 127.0.0.1\n") as server:
        yield server


@pytest.fixture(scope="module")
def smarthost() -> Iterator[Smarthost]:
    """Its certificate is for its name, not for its address."""
    with Smarthost(["example.com"], authority().issue(NAME), {"relay": PASSWORD}) as smarthost:
        yield smarthost


def config(smarthost: Smarthost, dns: str, relay: SubmissionRelay, scheme: str) -> dict[str, Any]:
    hop = f"smtps://{NAME}:{smarthost.tls_port}" if scheme == "smtps" else f"{NAME}:{smarthost.port}"
    route = {
        "name": "provider", "via": [hop], "ca_file": str(relay.ca), "username": "relay",
        "password_file": str(relay.directory / "password"),
    }  # fmt: skip
    return {"routes": [route], "dns": {"servers": [dns]}}


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_wrong_password_makes_mail_wait_until_it_is_mended(
    scheme: str, smarthost: Smarthost, dns: str, tmp_path: Path
) -> None:
    """Promise 5: nothing bounces, no attempt is counted, everybody is told; a new file is enough."""
    secret = tmp_path / "password"
    secret.write_text(WRONG + "\n")
    relay = SubmissionRelay(tmp_path)
    relay.configure(config(smarthost, dns, relay, scheme))
    before = smarthost.count()
    ports = smarthost.port, smarthost.tls_port, relay.smtp_port, relay.tls_port
    with relay, Dump(tmp_path, *ports) as dump:
        CLIENTS["curl"](relay.submission(), ["ann@example.com"])
        relay.wait_until(lambda: relay.metric("relay_route_up", route="provider") == 0, "in trouble")
        due = it_waits_and_says_why(relay)
        secret.write_text(PASSWORD + "\n")
        smarthost.wait(before + 1, 15)
        assert time.time() < due  # it was the file, not the probe
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
        assert relay.metric("relay_route_up", route="provider") == 1
        assert relay.metric("relay_route_fault", route="provider") == 0
        assert relay.metric("relay_deliveries_total", route="provider", result="delivered") == 1
        assert relay.metric("relay_deliveries_total") == 1
        assert relay.metric("relay_dsn_total") == 0
        CLIENTS["smtplib"](relay.submission(implicit=True), ["bob@example.com"])
        smarthost.wait(before + 2)
        log = relay.log()
    assert b"STARTTLS\r\n" in dump.octets
    for word in (PASSWORD, WRONG, CLIENT_PASSWORD):
        assert word not in log
        assert leaks(dump.octets, word) == []
    assert smarthost.count() == before + 2
    for content in smarthost.mail():
        assert content.endswith(MESSAGE.replace("\r", "").encode())
    assert smarthost.logins[-2:] == ["relay@postfix.example"] * 2


def it_waits_and_says_why(relay: SubmissionRelay) -> float:
    """In the metrics, in `queue list`, `queue show` and `explain`: the hop, its answer, and no attempt.
    Returns when the hop will be asked again, in seconds since the epoch."""
    assert relay.metric("relay_route_fault", route="provider", reason="auth") == 1
    assert relay.metric("relay_deliveries_total") == 0
    (entry,) = relay.listed()
    assert entry["attempts"] == 0
    assert entry["lane_state"]["reason"] == "auth"
    shown = relay.command("queue", "show", entry["queue_id"])
    explained = relay.command("explain", "ann@example.com")
    for said in (shown, explained):
        assert said.returncode == 0, said.stderr
        for word in ("535", NAME, "user name or password"):
            assert word in said.stdout
        assert WRONG not in said.stdout
    assert "waiting for the first attempt" in shown.stdout
    return float(entry["lane_state"]["until"])
