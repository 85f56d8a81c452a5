"""Looking at the machine: containers, gateways, mounts, files and what stands in the configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes.certificates import Authority

from relay.config import machine
from relay.config.model import Config, Mx, Route, Tls
from relay.config.surroundings import FileFacts

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
"""


def test_the_gateway() -> None:
    """Of the default route that has one."""
    assert machine.default_gateway(ROUTES) == "172.17.0.1"
    assert machine.default_gateway(ROUTES.rpartition("eth0")[0]) == ""
    assert machine.default_gateway("") == ""


def test_the_mount_of_a_path_that_is_not_there(tmp_path: Path) -> None:
    """That of what is above it, links followed."""
    (tmp_path / "link").symlink_to("/dev/shm" if Path("/dev/shm").is_dir() else "/")
    here = machine.mount_of(tmp_path / "link" / "a" / "b")
    assert here and here == machine.mount_of(Path("/dev/shm" if Path("/dev/shm").is_dir() else "/"))
    assert machine.mount_of(tmp_path / "no" / "such") == machine.mount_of(tmp_path)


def test_files(tmp_path: Path) -> None:
    """What is wrong with one, in words that say what to do."""
    secret, pem = tmp_path / "secret", Authority().write(tmp_path)
    secret.write_text("geheim\n")
    secret.chmod(0o600)
    assert machine.look_at(secret, "secret") == FileFacts()
    secret.write_text("\n")
    assert machine.look_at(secret, "secret").trouble.startswith("it is empty; write")
    assert machine.look_at(tmp_path / "none", "secret").trouble.startswith("there is no such file; write")
    assert (
        machine.look_at(tmp_path, "secret").trouble
        == "it cannot be read (is a directory); write the path of a file"
    )
    assert machine.look_at(secret, "certificates").trouble.startswith(
        "no certificate can be read in it; write"
    )
    assert machine.look_at(pem, "certificates").trouble == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("geheim")
    secret.chmod(0)
    assert (
        machine.look_at(secret, "secret").trouble == "this user cannot read it; let the relay's user read it"
    )


CANARY = "c4n4ry"
SECRETS = f"""\
hostname: relay.example.com
routes:
  - {{via: a.example, username: u, password: &x {CANARY}}}
  - via: b.example
    to: [b.example]
    username: v
    oauth:
      token_url: https://x.example/
      client_id: c
      client_secret: "{CANARY}"
      refresh_token: *x
  - {{via: c.example, username: w, password_file: /run/p}}
"""


def test_secrets_in_the_file(tmp_path: Path) -> None:
    """Each at its place, with the key and the variable to use instead; never the secret itself."""
    file = tmp_path / "relay.yaml"
    file.write_text(SECRETS)
    found = machine.written(file)
    assert [(each.line, each.column, each.key) for each in found] == [
        (3, 35, "routes.0.password"),
        (10, 7, "routes.1.oauth.client_secret"),
        (11, 7, "routes.1.oauth.refresh_token"),
    ]
    assert "write client_secret_file:" in found[1].text
    assert found[1].text.endswith("RELAY__ROUTES__1__OAUTH__CLIENT_SECRET")
    assert CANARY not in "".join(map(str, found))
    assert machine.written(tmp_path / "none") == []


def test_the_certificate(tmp_path: Path) -> None:
    """Until when it is valid, whatever is done with it; else which file is wrong and why."""
    authority = Authority()
    pair, other = authority.issue("a.example"), authority.issue("b.example", expired=True)
    paths, (_, key) = pair.write(tmp_path), other.write(tmp_path, "other")
    assert machine.certificate_of(Tls(certificate=paths[0], key=paths[1])) == pair.ends
    assert machine.certificate_of(Tls(certificate=tmp_path / "other.crt", key=key)) == other.ends
    for wrong in (key, tmp_path / "none", paths[0]):
        text = machine.certificate_of(Tls(certificate=paths[0], key=wrong))
        assert isinstance(text, str) and text.startswith("tls.key: ") and str(wrong) in text
    assert machine.certificate_of(Tls()) is None


def test_all_of_it(tmp_path: Path) -> None:
    """What the parts find is put together."""
    file = tmp_path / "relay.yaml"
    file.write_text(SECRETS)
    lent = Route(via=("a.example",), username="u", password_file=Path("lent-by-the-service-manager"))
    config = Config(spool=tmp_path / "spool", mx=Mx(ca_file=tmp_path / "none"), routes=(lent,))
    here = machine.look(config, file, {"container": "oci"})
    assert here.container and len(here.written) == 3 and not here.readable
    assert here.mount == machine.mount_of(tmp_path)
    assert list(here.files) == [tmp_path / "none"]
    assert machine.look(config, None, {}).written == ()
