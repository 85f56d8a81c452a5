"""Behind a real load balancer the relay knows its clients, over TLS of both kinds."""

from __future__ import annotations

import smtplib
import socket
from pathlib import Path

import pytest
from fakes.certificates import authority
from fakes.haproxy import haproxy
from fakes.loops import LOOPS
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess

CLIENT = "127.0.0.9"
MESSAGE = "Subject: x\r\n\r\nbody\r\n"


class Behind(RelayProcess):
    """A relay that greets nobody but a balancer's clients."""

    def _greets(self) -> bool:
        return True


def send(port: int, source: str, implicit: bool) -> None:
    context = authority().client()
    if implicit:
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            "127.0.0.1", port, "client.example", timeout=20, source_address=(source, 0), context=context
        )
    else:
        client = smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20, source_address=(source, 0))
        client.starttls(context=context)
    with client:
        client.sendmail("a@b.example", ["x@y.example"], MESSAGE)


@pytest.mark.parametrize("loop", LOOPS)
def test_haproxy(loop: str, tmp_path: Path) -> None:
    """Versions 1 and 2, STARTTLS and implicit: trust, log and Received are the client's; its health checks
    do no harm, and who is not behind it is refused."""
    certificate, key = authority().issue("127.0.0.1").write(tmp_path)
    other = ReservedPort()
    relay = Behind(tmp_path, environment={"RELAY_LOOP": loop})
    relay.configure(
        {
            "listeners": [
                {"address": f"127.0.0.1:{port}", "tls": tls, "proxy_from": ["127.0.0.1"]}
                for port, tls in ((relay.smtp_port, "starttls"), (other.port, "implicit"))
            ],
            "tls": {"certificate": str(certificate), "key": str(key)},
            "trusted_networks": [CLIENT],
            "routes": [{"via": f"capture:{tmp_path / 'mail'}"}],
        }
    )
    ways = {
        f"{tls}-{version}": (port, version)
        for tls, port in (("starttls", relay.smtp_port), ("implicit", other.port))
        for version in ("send-proxy", "send-proxy-v2")
    }
    with relay, haproxy(tmp_path, ways) as ports:
        for name, port in ports.items():
            send(port, CLIENT, name.startswith("implicit"))
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"relaying denied: 127\.0\.0\.8"):
            send(ports["starttls-send-proxy-v2"], "127.0.0.8", implicit=False)
        relay.wait_until(lambda: len(list((tmp_path / "mail").glob("**/*.eml"))) == len(ways), "captured")
        assert relay.metric("relay_smtp_connections_total", result="proxy") == 0
        with socket.create_connection(("127.0.0.1", relay.smtp_port), 20) as past_the_balancer:
            past_the_balancer.sendall(b"EHLO client.example\r\n")
            assert past_the_balancer.recv(512) == b""
        assert relay.metric("relay_smtp_connections_total", result="proxy") == 1
        relay.wait_until(
            lambda: relay.metric("relay_tls_sessions_total", direction="in", result="ok") == 5, "counted"
        )
    other.close()
    assert f"connect from unknown[{CLIENT}]" in relay.log()
    for file in (tmp_path / "mail").glob("**/*.eml"):
        assert f"Received: from client.example ([{CLIENT}])" in file.read_text()
