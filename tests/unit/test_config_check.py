"""deploy/relay.yaml, and what `relay check` prints for good files."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from relay.cli import check
from relay.config import schema
from relay.config.load import load
from relay.config.model import Config

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


def test_check_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("hostname: relay.example.com\nroutes: [{from: ['<>']}]\n")
    assert check.run(argparse.Namespace(config=file, json=True)) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["config"]["routes"][0]["from"]) == (True, ["<>"])
    file.write_text("hostname: x\n")
    assert check.run(argparse.Namespace(config=file, json=True)) == 78
    facts = json.loads(capsys.readouterr().out)
    assert (facts["ok"], facts["problems"][0]["line"], facts["problems"][0]["key"]) == (False, 1, "hostname")
