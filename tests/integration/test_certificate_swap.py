"""The certificate of a running relay: renewed in place, reloaded by SIGHUP, wrong at the start."""

from __future__ import annotations

import signal
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.certificates import Pair, authority, replace
from fakes.relay_process import RelayProcess

NAME = "localhost"
MESSAGE = "Subject: x\r\n\r\nbody\r\n"


def issue(days: int) -> Pair:
    return authority().issue(NAME, "127.0.0.1", days=days)


def with_tls(directory: Path, relay: RelayProcess, name: str = "tls", key: str = "tls") -> None:
    """The configuration: a STARTTLS listener that shows name.crt with key.key, everything kept on disk."""
    relay.configure(
        {
            "listeners": [{"address": f"127.0.0.1:{relay.smtp_port}", "tls": "starttls"}],
            "tls": {"certificate": str(directory / f"{name}.crt"), "key": str(directory / f"{key}.key")},
            "routes": [{"via": f"capture:{directory / 'mail'}"}],
        }
    )


@contextmanager
def session(relay: RelayProcess) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, "client.example", timeout=20) as client:
        client.starttls(context=authority().client())
        yield client


def shown(relay: RelayProcess) -> float:
    """The end of the certificate that a new session sees."""
    with session(relay) as client:
        return ends(client.sock)


def ends(sock: Any) -> float:
    assert isinstance(sock, ssl.SSLSocket)
    found = sock.getpeercert()
    assert found
    return ssl.cert_time_to_seconds(str(found["notAfter"]))


def test_swap(tmp_path: Path) -> None:
    """Both files renewed: taken without a restart, open sessions go on; half of it: the old one stays."""
    first, second = issue(10), issue(20)
    certificate, key = first.write(tmp_path)
    relay = RelayProcess(tmp_path)
    with_tls(tmp_path, relay)
    with relay, session(relay) as early:
        assert ends(early.sock) == first.ends
        assert relay.metric("relay_cert_not_after_timestamp_seconds") == first.ends
        replace(certificate, second.certificate)
        relay.wait_until(lambda: "the old certificate stays in use" in relay.log(), "half-way", 30)
        assert shown(relay) == first.ends
        replace(key, second.key)
        relay.wait_until(lambda: shown(relay) == second.ends, "swapped", 30)
        assert relay.metric("relay_cert_not_after_timestamp_seconds") == second.ends
        assert relay.metric("relay_cert_reloads_total", result="ok") == 1
        assert relay.metric("relay_cert_reloads_total", result="failed") == 1
        assert ends(early.sock) == first.ends
        early.sendmail("a@b.example", ["x@y.example"], MESSAGE)
        with session(relay) as late:
            late.sendmail("a@b.example", ["x@y.example"], MESSAGE)
        relay.wait_until(lambda: len(list((tmp_path / "mail").glob("**/*.eml"))) == 2, "captured")
    assert "Traceback" not in relay.log()


def test_reload(tmp_path: Path) -> None:
    """SIGHUP takes other files, or the same anew at once; a pair that does not match changes nothing."""
    pairs = {name: issue(days) for name, days in (("tls", 10), ("other", 20), ("third", 30))}
    for name, pair in pairs.items():
        pair.write(tmp_path, name)
    relay = RelayProcess(tmp_path)
    with_tls(tmp_path, relay)
    with relay:
        with_tls(tmp_path, relay, "other", "tls")
        reload(relay, failed=1)
        assert "error: reload failed: tls.key: " in relay.log()
        assert shown(relay) == pairs["tls"].ends
        with_tls(tmp_path, relay, "other", "other")
        reload(relay, ok=1)
        assert shown(relay) == pairs["other"].ends
        pairs["third"].write(tmp_path, "other")
        reload(relay, ok=2)
        assert shown(relay) == pairs["third"].ends
        assert relay.metric("relay_cert_not_after_timestamp_seconds") == pairs["third"].ends


def reload(relay: RelayProcess, **expected: int) -> None:
    (result, number) = next(iter(expected.items()))
    relay.send(signal.SIGHUP)
    relay.wait_until(lambda: relay.metric("relay_config_reloads_total", result=result) == number, "reloaded")


def test_a_start_without_a_certificate(tmp_path: Path) -> None:
    """Says which file and what to do; nothing listens, the spool is not touched."""
    issue(10).write(tmp_path)
    issue(10).write(tmp_path, "other")
    relay = RelayProcess(tmp_path)
    for name, key, said in (("none", "tls", "cannot read"), ("other", "tls", "is not the key of")):
        with_tls(tmp_path, relay, name, key)
        relay.spawn()
        assert relay.wait() == 69
        assert said in relay.log() and "Traceback" not in relay.log()
        assert not relay.spool.exists()
    relay.__exit__()


def test_no_gauge_without_tls(tmp_path: Path) -> None:
    """Nothing to alarm about where there is no certificate."""
    with RelayProcess(tmp_path) as relay:
        assert "relay_cert_not_after_timestamp_seconds" not in relay.metrics()
