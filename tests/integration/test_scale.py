"""Promises 7 and 8: memory follows the work in hand, not the queue and not the size of a message.

Short by default; `make scale` sets RELAY_FULL=1 and runs the full sizes: 200,000 messages, 100 x 50 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess
from fakes.tools import require_tool

FULL = os.environ.get("RELAY_FULL") == "1"
QUEUED = 200_000 if FULL else 20_000
SENDERS = 100 if FULL else 20
LARGE = 50_000_000  # octets
MB = 10**6


def source(port: int, sessions: int, messages: int, size: int, seconds: float = 400) -> None:
    command = [
        require_tool("smtp-source", "postfix"), "-s", str(sessions), "-m", str(messages), "-l", str(size),
        "-d", "-f", "app@sender.example", "-t", "many@example.com", f"127.0.0.1:{port}",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=seconds, check=True)


@contextmanager
def smtp_sink(port: int) -> Iterator[None]:
    """Postfix's smtp-sink: takes everything, keeps nothing."""
    program = require_tool("smtp-sink", "postfix")
    process = subprocess.Popen([program, "-u", "nobody", f"127.0.0.1:{port}", "200"])
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


class PeakMemory:
    """The highest resident memory of a relay while the block runs, in octets."""

    def __init__(self, relay: RelayProcess) -> None:
        self.relay = relay
        self.highest = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        while not self.stopping.is_set():
            self.highest = max(self.highest, self.relay.resident())
            self.stopping.wait(0.05)

    def __enter__(self) -> PeakMemory:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self.thread.join(10)


@pytest.mark.timeout(900)
def test_a_long_queue_costs_disk_not_memory(tmp_path: Path) -> None:
    """Many queued: small in memory, listed as a stream, accepting again soon after kill -9 and start."""
    port = ReservedPort()
    config = {"routes": [{"name": "all", "via": [f"127.0.0.1:{port.port}"]}]}
    with RelayProcess(tmp_path, config) as relay:
        source(relay.smtp_port, 20, QUEUED, 1024)
        assert relay.waiting() == QUEUED
        with PeakMemory(relay) as memory:
            begun = time.monotonic()
            rows, first = stream_list(relay)
            took = time.monotonic() - begun
        assert rows == QUEUED
        relay.kill9()
        again = relay.start()
        assert relay.waiting() == QUEUED
        after = relay.resident()
    port.close()
    print(
        f"{QUEUED} queued: {memory.highest / MB:.0f} MB resident, list {took:.1f} s, "
        f"its first line {first:.2f} s, accepting again after {again:.2f} s with {after / MB:.0f} MB"
    )
    assert memory.highest < 120 * MB
    assert again < 2.0


def stream_list(relay: RelayProcess) -> tuple[int, float]:
    """Lines of `relay queue list --json`, and the seconds until the first one."""
    begun = time.monotonic()
    with relay.popen("queue", "list", "--json") as process:
        assert process.stdout
        first = 0.0
        rows = 0
        for line in process.stdout:
            first = first or time.monotonic() - begun
            rows += 1
            if rows % 10_000 == 1:
                json.loads(line)
    assert process.returncode == 0
    return rows, first


@pytest.mark.timeout(900)
def test_large_messages_flow_through(tmp_path: Path) -> None:
    """Many connections with a 50 MB message each at once: they go through the disk, not the memory."""
    port = ReservedPort()
    config = {"routes": [{"name": "all", "via": [f"127.0.0.1:{port.port}"]}]}
    with smtp_sink(port.port), RelayProcess(tmp_path, config) as relay:
        with PeakMemory(relay) as memory:
            source(relay.smtp_port, SENDERS, SENDERS, LARGE)
            relay.wait_until(lambda: relay.waiting() == 0, "empty", 400)
        assert relay.metric("relay_deliveries_total", result="delivered") == SENDERS
    port.close()
    print(f"{SENDERS} x {LARGE / MB:.0f} MB: {memory.highest / MB:.0f} MB resident")
    assert memory.highest < 300 * MB
