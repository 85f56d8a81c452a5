"""`make bench` runs, on a small scale: what it measures is for people to judge."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from fakes.tools import require_root, require_tool

ROOT = Path(__file__).resolve().parents[2]


def test_it_measures_both_over_tls() -> None:
    """One pair of short runs: a rate for each, a ratio, and TLS 1.3 on both sides of both."""
    require_root("Postfix changes its users")
    require_tool("haproxy", "haproxy")
    require_tool("smtp-source", "postfix")
    done = subprocess.run(
        [sys.executable, "tests/bench/tls.py", "--pairs", "1", "--messages", "100"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}:{ROOT / 'queue'}"},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rates = re.findall(r"^ +1  (relay|postfix) +(\d+)/s", done.stdout, re.M)
    assert {name for name, rate in rates if int(rate) > 1} == {"relay", "postfix"}
    assert re.search(r"^messages a second: \d", done.stdout, re.M)
    for name in ("relay", "postfix"):
        assert re.search(rf"^{name}: in TLSv1.3 \w+; out TLSv1.3 \w+$", done.stdout, re.M)
