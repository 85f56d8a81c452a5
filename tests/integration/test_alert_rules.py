"""The alerts of deploy/prometheus: right by promtool, able to fire, about metrics that exist, explained."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.tools import require_tool
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from relay.observe.metrics import Metrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES, TESTS = DEPLOY / "prometheus/relay.rules.yml", DEPLOY / "prometheus/relay.rules.test.yml"
OTHERS = {"up"}  # made by Prometheus itself


@cache
def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


NAMES = [rule["alert"] for rule in rules()]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = require_tool("promtool", "prometheus")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def scrape() -> dict[str, set[tuple[str, str]]]:
    """Every sample name of a relay's /metrics with the label values it has."""
    found: dict[str, set[tuple[str, str]]] = {}
    for family in text_string_to_metric_families(generate_latest(Metrics(["partner"]).registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels.items())
    return found


def test_promtool_finds_nothing_wrong() -> None:
    """Syntax, templates, and the example configuration that names the rules."""
    for arguments in (
        ("check", "rules", str(RULES)),
        ("check", "config", str(DEPLOY / "prometheus/prometheus.yml")),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_fires_and_is_silent_when_all_is_well() -> None:
    """What relay.rules.test.yml says is so."""
    done = promtool("test", "rules", str(TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("expression", ["vector(0) > 1", "vector(1)"], ids=["dead", "always"])
def test_a_rule_that_is_wrong_is_seen(expression: str, tmp_path: Path) -> None:
    """Rules that never fire, or always do: the tests fail, and name every one of them."""
    broken = [rule | {"expr": expression} for rule in rules()]
    (tmp_path / RULES.name).write_text(yaml.safe_dump({"groups": [{"name": "relay", "rules": broken}]}))
    (tmp_path / TESTS.name).write_text(TESTS.read_text())
    done = promtool("test", "rules", str(tmp_path / TESTS.name))
    assert done.returncode == 1
    side = "exp" if expression.startswith("vector(0)") else "got"
    told = "\n".join(re.findall(rf"^ *{side}:.*$", done.stdout + done.stderr, re.M))
    assert set(NAMES) <= set(re.findall(r'alertname="(\w+)"', told))


@pytest.mark.parametrize("rule", rules(), ids=NAMES)
def test_the_metrics_exist(rule: dict[str, Any]) -> None:
    """Each name and each label value of an expression is one that the relay shows; "job" is not its own."""
    shown = scrape()
    names = set(re.findall(r"\b(?:relay|process)_\w+", rule["expr"]))
    assert names <= set(shown)
    for name, selector in re.findall(r"\b(\w+)\{([^}]*)\}", rule["expr"]):
        if name in OTHERS:
            continue
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            wanted = {(label, value) for value in values.split("|")}
            assert label == "job" or wanted <= shown[name], f"{name}: {wanted - shown[name]}"
    for label in re.findall(r"\$labels\.(\w+)", str(rule["annotations"])):
        known = {each for name in names for each, _ in shown[name]}
        assert label == "instance" or label in known, f"{label} is no label of {names}"


@pytest.mark.parametrize("rule", rules(), ids=NAMES)
def test_it_says_what_to_do(rule: dict[str, Any]) -> None:
    """A severity, a summary, a description, and a heading of deploy/README.md that the runbook leads to."""
    name = rule["alert"]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".") and len(rule["annotations"]["description"]) > 60
    assert rule["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
    assert f"\n### {name}\n" in (DEPLOY / "README.md").read_text()
