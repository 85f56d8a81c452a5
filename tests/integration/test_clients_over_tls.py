"""Real clients over TLS with a login, real servers behind: every pair, on both event loops."""

from __future__ import annotations

import email
import itertools
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes.certificates import authority
from fakes.clients import CLIENTS, MESSAGE
from fakes.exim import Exim
from fakes.loops import LOOPS
from fakes.smarthost import Smarthost
from fakes.submission import SubmissionRelay
from fakes.tools import require_tool

Host = Smarthost | Exim
USERS = {"relay": "s3cret of the relay"}
HOSTS = ["postfix", "exim"]
WAYS = list(itertools.product(CLIENTS, (False, True), ("PLAIN", "LOGIN")))
DOMAINS = ["starttls.example", "smtps.example"]


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    pair = authority().issue("127.0.0.1")
    domains = {name: [f"{name}-{domain}" for domain in DOMAINS] for name in HOSTS}
    with (
        Smarthost(domains["postfix"], pair, USERS) as postfix,
        Exim(domains["exim"], pair, USERS) as exim,
    ):
        yield {"postfix": postfix, "exim": exim}


def routes(hosts: dict[str, Host], ca: Path, password: Path) -> list[dict[str, Any]]:
    """To each host once with STARTTLS and once with TLS from the first octet; verified, with a login."""
    password.write_text(USERS["relay"] + "\n")
    login = {"ca_file": str(ca), "username": "relay", "password_file": str(password)}
    vias = {
        f"{name}-{domain}": via
        for name, host in hosts.items()
        for domain, via in zip(
            DOMAINS, (f"127.0.0.1:{host.port}", f"smtps://127.0.0.1:{host.tls_port}"), strict=True
        )
    }
    return [{"name": domain, "to": [domain], "via": [via], **login} for domain, via in vias.items()]


@pytest.mark.parametrize("loop", LOOPS)
def test_every_client_reaches_every_server(loop: str, hosts: dict[str, Host], tmp_path: Path) -> None:
    """Five clients, STARTTLS and implicit, PLAIN and LOGIN; Postfix and Exim, STARTTLS and smtps."""
    relay = SubmissionRelay(tmp_path, environment={"RELAY_LOOP": loop})
    relay.configure({"routes": routes(hosts, relay.ca, tmp_path / "password")})
    with relay, ThreadPoolExecutor(2) as pool:
        assert ("uvloop" in Path(f"/proc/{relay.pid}/maps").read_text()) is (loop == "uvloop")
        sent = [one for each in pool.map(lambda way: send(relay, loop, *way), WAYS) for one in each]
        for host in hosts.values():
            host.wait(len(sent) // 2 * (list(LOOPS).index(loop) + 1))
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
        good = {"version": "TLSv1.3", "result": "ok"}
        assert relay.metric("relay_tls_sessions_total", direction="in", **good) == len(WAYS)
        assert relay.metric("relay_tls_sessions_total", direction="out", **good) >= 4
        assert relay.metric("relay_tls_sessions_total", result="failed") == 0
    mail = [content for host in hosts.values() for content in host.mail()]
    arrived = {recipient(content): content for content in mail if recipient(content).startswith(loop)}
    assert set(arrived) == set(sent)
    for content in arrived.values():
        assert below_ours(content).rstrip() == MESSAGE.replace("\r", "").rstrip().encode()


def send(relay: SubmissionRelay, loop: str, client: str, implicit: bool, mechanism: str) -> list[str]:
    """One message to all servers; returns its recipients."""
    way = f"{loop}-{client}-{'implicit' if implicit else 'starttls'}-{mechanism.lower()}"
    recipients = [f"{way}@{host}-{domain}" for host in HOSTS for domain in DOMAINS]
    CLIENTS[client](relay.submission(implicit=implicit, mechanism=mechanism), recipients)
    return recipients


def recipient(content: bytes) -> str:
    """Whom the server delivered it to."""
    headers = email.message_from_bytes(content)
    return str(headers["X-Original-To"] or headers["Envelope-to"])


def below_ours(content: bytes) -> bytes:
    """What is below the relay's own Received header, which says how the client came in (RFC 3848)."""
    above, ours, rest = content.partition(b"\tby relay.example (relay) with ESMTPSA id ")
    assert ours, above
    return rest.split(b"\n", rest.count(b"\n\t", 0, rest.index(b"; ")) + 1)[-1]


def test_what_openssl_finds(tmp_path: Path) -> None:
    """TLS 1.1 gets no session, TLS 1.2 and 1.3 do; no ticket is offered, nothing is renegotiated."""
    openssl = require_tool("openssl", "openssl")
    with SubmissionRelay(tmp_path) as relay:
        starttls = ["-starttls", "smtp", "-connect", f"127.0.0.1:{relay.smtp_port}"]
        for port in (starttls, ["-connect", f"127.0.0.1:{relay.tls_port}"]):
            for version in ("-tls1_2", "-tls1_3"):
                said = ask(openssl, *port, version, "-CAfile", str(relay.ca), "-verify_return_error")
                assert "Verify return code: 0 (ok)" in said
                assert "250 " in said
                assert "TLS session ticket" not in said
                assert "New Session Ticket" not in said
            refused = ask(openssl, *port, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
            assert "New, (NONE), Cipher is (NONE)" in refused, refused


def ask(openssl: str, *arguments: str) -> str:
    """What s_client and the server say; the session is ended by QUIT."""
    command = [openssl, "s_client", *arguments, "-crlf", "-ign_eof"]
    done = subprocess.run(
        command, input="EHLO client.example\nQUIT\n", capture_output=True, text=True, timeout=30
    )
    return done.stdout + done.stderr
