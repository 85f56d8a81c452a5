"""Where the relay is started: on a file system that a restart empties; with secrets that nobody may see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes.relay_process import RelayProcess

MOUNT = {
    "tmpfs": 'mount -t tmpfs none "$0" && exec "$@"',
    "overlay": 'mount -t overlay none -o "lowerdir=$0.low,upperdir=$0.up,workdir=$0.work" "$0" && exec "$@"',
}


def mounted(kind: str, spool: Path) -> list[str]:
    """What to run a command under, so that it alone sees such a file system in place of the spool."""
    if os.geteuid() != 0:
        pytest.skip("mounts a file system: needs root")
    for name in ("spool", "spool.low", "spool.up", "spool.work"):
        (spool.parent / name).mkdir()
    prefix = ["unshare", "-m", "sh", "-c", MOUNT[kind], str(spool)]
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode != 0:
        pytest.skip(f"cannot mount {kind} here: {tried.stderr.strip()}")
    return prefix


@pytest.mark.parametrize("kind", MOUNT)
def test_a_spool_that_a_restart_empties_is_refused(tmp_path: Path, kind: str) -> None:
    """Promise 1: durable before 250. EX_CONFIG, one line that says what to do, nothing made; or a warning
    where it is allowed by name."""
    relay = RelayProcess(tmp_path, {"allow_volatile_spool": False})
    prefix = mounted(kind, relay.spool)
    relay.spawn(prefix)
    assert relay.wait() == 78
    (line,) = relay.log().splitlines()
    assert line.startswith(f"relay: spool: {relay.spool} lies on {kind}, ")
    assert "mount a volume" in line and "allow_volatile_spool: true" in line

    command = [sys.executable, "-m", "relay", "check", "-c", str(relay.file)]
    checked = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    assert f"warning: {line.removeprefix('relay: ')}; `relay run` refuses to start" in checked.stdout

    relay.configure({"allow_volatile_spool": True})
    try:
        relay.start(prefix)
        assert relay.terminate() == 0
    finally:
        relay.__exit__()
    told = [line for line in relay.log().splitlines() if f"lies on {kind}" in line]
    assert len(told) == 2 and "warning: spool:" in told[1] and "allow_volatile_spool" in told[1]


def refused(relay: RelayProcess, reloads: int) -> bool:
    return relay.metric("relay_config_reloads_total", result="failed") == reloads


CANARY = "c4n4ry"


def test_no_secret_is_told(tmp_path: Path) -> None:
    """Neither in the log, at a start and at reloads good and bad, nor by /metrics, nor by commands."""
    routes: list[dict[str, Any]] = [
        {"name": "a", "to": ["a.example"], "via": ["127.0.0.1:9"], "username": "u", "password": CANARY},
        {
            "name": "b",
            "via": ["127.0.0.1:9"],
            "username": "v",
            "oauth": {
                "token_url": "http://127.0.0.1:9/", "client_id": "c",
                "client_secret": CANARY, "refresh_token": CANARY,
            },
        },
    ]  # fmt: skip
    with RelayProcess(tmp_path, {"log": {"level": "debug"}, "routes": routes}) as relay:
        for number, password in ((1, [CANARY]), (2, {CANARY: CANARY})):
            relay.configure({"routes": [{**routes[0], "password": password}]})
            relay.send(signal.SIGHUP)
            relay.wait_until(partial(refused, relay, number), "refused")
        said = relay.log() + relay.get("/metrics")[1]
        relay.configure({"routes": routes})
        for arguments in (
            ["check"],
            ["check", "--json"],
            ["explain", "x@a.example", "--json"],
            ["queue", "status"],
        ):
            done = relay.command(*arguments)
            assert done.returncode == 0, done.stderr
            said += done.stdout + done.stderr
    assert "a secret stands in the file" in said
    assert CANARY not in said
