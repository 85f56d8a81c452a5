"""`preset:` fills in what a big smarthost documents; what is written wins; `relay check` shows what holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import pytest

from relay.cli import check
from relay.config.load import load
from relay.config.model import Route
from relay.config.presets import PRESETS, PresetName
from relay.config.units import parse_rate
from relay.routing.table import RouteTable
from relay.routing.via import parse_via


def loaded(tmp_path: Path, *lines: str) -> Route:
    """The only route of a file with these keys."""
    file = tmp_path / "relay.yaml"
    file.write_text("routes:\n  - " + "\n    ".join(lines) + "\n")
    (route,) = load(file, {}, lambda: "relay.example.com").routes
    return route


@pytest.mark.parametrize(
    ("preset", "via", "rate", "concurrency", "messages"),
    [
        ("office365", "smtp.office365.com:587", "30/min", 3, 100),
        ("gmail", "smtp.gmail.com:587", None, 20, 100),
        ("sendgrid", "smtp.sendgrid.net:587", None, 20, 5000),
    ],
)
def test_it_fills_in(
    tmp_path: Path, preset: str, via: str, rate: str | None, concurrency: int, messages: int
) -> None:
    route = loaded(tmp_path, f"preset: {preset}")
    assert (route.via, route.tls) == ((via,), "verify")
    assert (route.rate, route.concurrency, route.messages_per_connection) == (rate, concurrency, messages)


def test_what_is_written_wins(tmp_path: Path) -> None:
    route = loaded(
        tmp_path, "preset: office365", "via: smtp-legacy.office365.com", "tls: require", "rate: 10/min",
        "concurrency: 1", "messages_per_connection: 7",
    )  # fmt: skip
    assert (route.via, route.tls) == (("smtp-legacy.office365.com",), "require")
    assert (route.rate, route.concurrency, route.messages_per_connection) == ("10/min", 1, 7)


def test_the_environment_wins_as_well(tmp_path: Path) -> None:
    """A staging system captures what production sends to the smarthost."""
    file = tmp_path / "relay.yaml"
    file.write_text("routes: [{preset: office365}]\n")
    (route,) = load(file, {"RELAY__ROUTES__0__VIA": "capture:/var/tmp/mail"}, lambda: "r.example").routes
    assert (route.via, route.rate) == ("capture:/var/tmp/mail", "30/min")


def test_ses_wants_its_region(tmp_path: Path) -> None:
    route = loaded(tmp_path, "preset: ses", "via: email-smtp.eu-west-1.amazonaws.com:587", "rate: 14/s")
    assert (route.tls, route.rate, route.concurrency) == ("verify", "14/s", 20)


def test_a_lane_has_it(tmp_path: Path) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text("routes: [{preset: office365, name: m}]\n")
    policy = RouteTable(load(file, {}, lambda: "r.example")).policy("route:m")
    assert policy is not None
    assert (policy.rate, policy.concurrency, policy.tls) == ((30, 60.0), 3, "verify")
    assert policy.via == (parse_via("smtp.office365.com:587"),)


def test_check_shows_what_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "relay.yaml"
    file.write_text(
        "routes:\n  - {preset: office365, name: m, to: [a.example]}\n  - {preset: sendgrid, name: s}\n"
    )
    assert check.run(argparse.Namespace(config=file, json=False)) == 0
    said = capsys.readouterr().out
    assert "m: a.example -> smtp.office365.com:587 (tls verify, 3 connections, at most 30/min)" in said
    assert "s: any domain -> smtp.sendgrid.net:587 (tls verify, 20 connections of 5000 messages each)" in said


@pytest.mark.parametrize("name", get_args(PresetName))
def test_every_preset_is_a_good_configuration(tmp_path: Path, name: PresetName) -> None:
    preset = PRESETS[name]
    assert bool(preset.via) != bool(preset.where)
    assert parse_via(preset.via or preset.where).port == 587
    if preset.rate:
        parse_rate(preset.rate)
    lines = [f"preset: {name}", f"via: {preset.where}"] if preset.where else [f"preset: {name}"]
    assert loaded(tmp_path, *lines).tls == "verify"
