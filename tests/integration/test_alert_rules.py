"""The alerts of deploy/prometheus: right by promtool, able to fire, about metrics that exist, explained."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.certificates import Authority
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess
from fakes.tools import require_tool

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


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """A relay with a route and TLS, healthy and idle."""
    folder = tmp_path_factory.mktemp("relay")
    certificate, key = Authority().issue("relay.example").write(folder)
    config = {
        "tls": {"certificate": str(certificate), "key": str(key)},
        "routes": [{"name": "partner", "to": ["example.org"], "via": ["127.0.0.1:9"]}],
    }
    with RelayProcess(folder, config) as made:
        listeners = [{"address": f"127.0.0.1:{made.smtp_port}", "tls": "starttls"}]
        made.configure(config | {"listeners": listeners})
        made.restart()
        yield made


@pytest.fixture(scope="module")
def shown(relay: RelayProcess) -> dict[str, set[tuple[str, str]]]:
    """Every sample name of /metrics with the label values it has."""
    return {name: set().union(*samples) for name, samples in relay.metrics().items()}


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
def test_the_metrics_exist(rule: dict[str, Any], shown: dict[str, set[tuple[str, str]]]) -> None:
    """Each name and each label value of an expression is one that a real relay shows; "job" is not."""
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


class Prometheus:
    """A real one that scrapes `target` every 200 ms and knows the rules."""

    def __init__(self, directory: Path, target: str) -> None:
        self._port = ReservedPort()
        config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
        config["global"] = dict.fromkeys(config["global"], "200ms")
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        with (directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    require_tool("prometheus", "prometheus"),
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address=127.0.0.1:{self._port.port}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        self._port.close()

    def ask(self, path: str) -> Any:
        """The data of an answer; None while there is none."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port.port}/api/v1/{path}", timeout=10
            ) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, expression: str) -> list[float]:
        found = self.ask(f"query?query={expression}")
        return [float(each["value"][1]) for each in found["result"]] if found else []

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self._process.poll() is None and time.monotonic() < deadline, what
            time.sleep(0.1)


def test_a_real_prometheus(relay: RelayProcess, tmp_path: Path) -> None:
    """It scrapes the relay and evaluates every rule without an error; a healthy idle relay is not even near
    an alarm, a relay that is gone is."""
    prometheus = Prometheus(tmp_path, f"127.0.0.1:{relay.admin_port}")
    try:
        prometheus.wait_until(lambda: prometheus.value("count_over_time(up[1m])>10") != [], "scraped")
        prometheus.wait_until(lambda: evaluated(prometheus) == set(NAMES), "evaluated")
        assert prometheus.value("up") == [1]
        assert prometheus.ask("alerts") == {"alerts": []}
        relay.kill9()
        prometheus.wait_until(lambda: bool(prometheus.ask("alerts")["alerts"]), "alarmed")
        assert {each["labels"]["alertname"] for each in prometheus.ask("alerts")["alerts"]} == {"RelayDown"}
    finally:
        prometheus.close()


def evaluated(prometheus: Prometheus) -> set[str]:
    """The rules that were evaluated without an error."""
    groups = (prometheus.ask("rules") or {"groups": []})["groups"]
    return {rule["name"] for group in groups for rule in group["rules"] if rule["health"] == "ok"}
