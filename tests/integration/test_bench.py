"""`make bench` runs, on a small scale: what it measures is for people to judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fakes.tools import require_root, require_tool

ROOT = Path(__file__).resolve().parents[2]


def bench(directory: Path, *arguments: str) -> dict[str, Any]:
    """The record of a short run."""
    file = directory / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json", str(file), "--directory", "/tmp", *arguments],
        cwd=directory, env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}:{ROOT / 'queue'}"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record: dict[str, Any] = json.loads(file.read_text())
    for name in record["scenarios"]:
        assert f"\n| {name} | " in done.stdout
    return record


def test_it_measures_both_over_tls(tmp_path: Path) -> None:
    """A pair of short runs: every message arrives once, rate, CPU and ratio, TLS 1.3 both ways."""
    require_root("Postfix changes its users")
    require_tool("haproxy", "haproxy")
    require_tool("smtp-source", "postfix")
    record = bench(tmp_path, "--scenarios", "tls")
    scenario = record["scenarios"]["tls"]
    (pair,) = scenario["pairs"]
    assert set(pair) == set(scenario["median"]) == {"relay", "postfix"}
    for raw in pair.values():
        assert raw["messages"] >= 50 and raw["lost"] == 0
        assert raw["rate"] > 1 and raw["cpu"] > 0.01 and raw["tls"] == 1.3
    for name in ("rate", "cpu"):
        expected = pair["relay"][name] / pair["postfix"][name]
        assert abs(scenario["ratio"][name]["median"] / expected - 1) < 1e-9
    assert record["version"] == 1 and record["machine"]["cores"] >= 1 and record["left_out"] == {}
