"""deploy/relay.yaml, and what `relay check` prints for good files."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from relay.cli import check
from relay.cli.main import main
from relay.config import schema
from relay.config.load import load
from relay.config.model import Config
from relay.config.problem import ConfigErrors

DEPLOY = Path(__file__).parent.parent.parent / "deploy" / "relay.yaml"
NAMED = Config(hostname="relay.example.com")


def test_the_commented_configuration_holds_the_defaults() -> None:
    """deploy/relay.yaml changes nothing: what it writes is what it says the defaults are."""
    assert load(DEPLOY, {}, lambda: "relay.example.com") == NAMED


def test_the_commented_configuration_names_every_key() -> None:
    """Each key of the model stands there, in use or in a comment."""
    text = DEPLOY.read_text()
    missing = [
        path for path, _ in schema.all_keys() if not re.search(rf"^[#\s-]*{path[-1]}:", text, re.MULTILINE)
    ]
    assert missing == []


def test_its_comments_are_right_too(tmp_path: Path) -> None:
    """With the comment signs of keys taken away it is still a good configuration."""
    lines = [re.sub(r"^#(?=[a-z_]+:)", "", line) for line in DEPLOY.read_text().splitlines()]
    text = "\n".join(re.sub(r"^#(?=  )", "", line) for line in lines)
    text = re.sub(r"^(routes|rewrite): \[\]$", r"\1:", text, flags=re.MULTILINE)
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    config = load(file, {})
    assert (
        config.hostname,
        config.origin,
        config.postmaster,
    ) == ("relay.example.com", "example.com", "ops@example.com")
    assert [route.name for route in config.routes] == ["billing", "microsoft"]


def test_check_prints_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(
        "hostname: relay.example.com\nlimits: {sessions: 5}\nroutes:\n  - {to: [a.example], via: b.example}\n"
    )
    assert check.run(argparse.Namespace(config=file, json=False)) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{file}: ok\n")
    assert "  route       1: a.example -> b.example (tls opportunistic, 20 connections)\n" in out
    assert "warning: limits.sessions_per_client:" in out
    assert err == ""


def test_no_mail_goes_by_mx_where_a_route_takes_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row of mail without a route stands only where there is such mail."""
    for route, by_mx in (("{via: b.example}", False), ("{from: ['@a.example'], via: b.example}", True)):
        file = tmp_path / "relay.yaml"
        file.write_text(f"hostname: relay.example.com\nroutes: [{route}]\n")
        assert check.run(argparse.Namespace(config=file, json=False)) == 0
        assert ("all other mail" in capsys.readouterr().out) is by_mx


def test_a_secret_of_the_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a credential of systemd's has no full path: an operator's command looks for it where the
    unit has it; a relay that is given none says so."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    file = tmp_path / "relay.yaml"
    route = "{via: ['smtp.example.net:587'], username: me, password_file: smarthost-password}"
    file.write_text(f"hostname: relay.example.com\nspool: {tmp_path}/none\nroutes: [{route}]\n")
    assert check.run(argparse.Namespace(config=str(file), json=False)) == 0
    assert "/run/credentials/relay.service/smarthost-password: " in capsys.readouterr().out
    assert main(["queue", "list", "-c", str(file)]) == 66  # no spool, and not: a wrong configuration
    with pytest.raises(ConfigErrors, match="CREDENTIALS_DIRECTORY is not set"):
        load(file, {})


def test_check_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "relay.yaml"
    keys = "routes: [{from: ['<>']}]\nrewrite: [{from: '@*.local', to: a@b.example}]\n"
    file.write_text(f"hostname: relay.example.com\n{keys}")
    assert check.run(argparse.Namespace(config=file, json=True)) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["config"]["routes"][0]["from"]) == (True, ["<>"])
    assert facts["config"]["rewrite"] == [{"from": "@*.local", "to": "a@b.example", "header": False}]
    file.write_text("hostname: x\n")
    assert check.run(argparse.Namespace(config=file, json=True)) == 78
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["problems"][0]["line"], facts["problems"][0]["key"]) == (False, 1, "hostname")


CANARY = "c4n4ry"
WHOLE = f"""
hostname: relay.example.com
listeners:
  - {{address: "127.0.0.1:2587", tls: starttls, auth: required, proxy_from: [127.0.0.9]}}
  - {{address: "127.0.0.1:2525", auth: optional, auth_over: clear}}
tls: {{certificate: /etc/relay/tls.crt, key: /etc/relay/tls.key}}
users_file: /etc/relay/users
origin: corp.example
rewrite:
  - {{from: "root@*.local", to: ops@example.com, header: true}}
  - {{from: "@old.example", to: "@example.com"}}
routes:
  - {{name: a, to: [a.example], via: a.example, username: relay, password: {CANARY}, rate: 30/min}}
  - {{name: b, to: [b.example], via: mx, concurrency: 1, connections: 7, messages_per_connection: 1}}
  - name: c
    via: c.example
    tls: require
    username: box
    login_over: encrypted
    oauth: {{token_url: "https://x.example/", client_id: i, client_secret: {CANARY}, refresh_token: {CANARY}}}
"""


def test_the_summary_says_what_was_made_of_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TLS, logins, limits and rewriting stand in its lines."""
    file = tmp_path / "relay.yaml"
    file.write_text(WHOLE)
    assert check.run(argparse.Namespace(config=file, json=False)) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for label, text in (
        ("listener", "127.0.0.1:2587 (tls starttls, auth required, PROXY from 127.0.0.9)"),
        ("listener", "127.0.0.1:2525 (tls off, auth optional (also without TLS))"),
        ("tls", "certificate /etc/relay/tls.crt, key /etc/relay/tls.key"),
        ("users", "/etc/relay/users"),
        ("origin", "corp.example, for addresses without a domain"),
        ("may relay", "127.0.0.0/8, ::1, who logs in"),
        ("rewrite", "root@*.local -> ops@example.com (also in the From header)"),
        ("rewrite", "@old.example -> @example.com"),
        (
            "route",
            "a: a.example -> a.example (tls verify, 20 connections, at most 30/min, "
            "logs in as relay by password)",
        ),
        ("route", "b: b.example -> MX hosts (tls opportunistic, 1 connection of 1 message each, 7 in all)"),
        (
            "route",
            "c: any domain -> c.example (tls require, 20 connections, "
            "logs in as box by XOAUTH2, also over unverified TLS)",
        ),
    ):
        assert f"{label:<10}  {text}" in lines


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("", "", 0),
        ("username: relay, ", "", 78),
        (f"password: {CANARY}", f"password: [{CANARY}]", 78),
        (f"password: {CANARY}", f"password: {{{CANARY}: 1}}", 78),
        (f"password: {CANARY}", f"password: {CANARY}, password_file: /x", 78),
        (f"client_secret: {CANARY}", f"client_secret: {CANARY}, client_secret_file: /x", 78),
    ],
)
def test_no_secret_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, code: int, as_json: bool
) -> None:
    """Neither by the summary, nor as JSON, nor in what is wrong or odd."""
    file = tmp_path / "relay.yaml"
    file.write_text(WHOLE.replace(old, new))
    assert check.run(argparse.Namespace(config=file, json=as_json)) == code
    out, err = capsys.readouterr()
    assert out + err
    assert CANARY not in out + err


def test_numbers_as_secrets_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that YAML takes for a number is refused without being repeated."""
    file = tmp_path / "relay.yaml"
    file.write_text(WHOLE.replace(CANARY, "98765432109"))
    assert check.run(argparse.Namespace(config=file, json=False)) == 78
    out, err = capsys.readouterr()
    assert "routes.0.password: not a text; write it in quotes" in err
    assert "98765432109" not in out + err
