"""Promises 7 and 8: memory follows the work in hand, not the queue and not the size of a message.

Short by default; `make scale` sets RELAY_FULL=1 and runs the full sizes: a million messages, 100 x 50 MB.
Times are only judged there, figures of speed only beside a peer in the same minute.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from fakes.full_spool import fill
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess
from fakes.tools import require_tool

FULL = os.environ.get("RELAY_FULL") == "1"
QUEUED = 1_000_000 if FULL else 4_000
BY_FRONT = 20_000 if FULL else 500  # of them
ROUNDS, A_ROUND = (7, 5_000) if FULL else (1, 200)
SENDERS = 100 if FULL else 8
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


@contextmanager
def waiting_relay(directory: Path, messages: int) -> Iterator[RelayProcess]:
    """A relay whose next hop is down, with so many messages in its queue; its spool goes in the end."""
    port = ReservedPort()
    config = {"routes": [{"name": "all", "via": [f"127.0.0.1:{port.port}"]}]}
    directory.mkdir()
    relay = RelayProcess(directory, config)
    fill(relay.spool, messages, lambda number: ("route:all", f"{number}many@example.com"))
    try:
        with relay:
            yield relay
    finally:
        port.close()
        shutil.rmtree(relay.spool)


@pytest.mark.timeout(1800)
def test_a_long_queue_costs_disk_not_memory(tmp_path: Path) -> None:
    """Many queued: small in memory, listed as a stream, accepting again soon after kill -9 and start."""
    with waiting_relay(tmp_path / "full", QUEUED - BY_FRONT) as relay:
        source(relay.smtp_port, 20, BY_FRONT, 1024)
        assert relay.waiting() == QUEUED
        with PeakMemory(relay) as memory:
            begun = time.monotonic()
            rows = stream_list(relay)
            took = time.monotonic() - begun
            wanted = FILTERS if FULL else FILTERS[:1]
            pages = {" ".join(words): first_page(relay, *words) for words in wanted}
            retried = relay.command("queue", "retry", "--all", seconds=600).stdout
        assert (rows, retried) == (QUEUED, f"{QUEUED} messages will be tried now\n")
        with waiting_relay(tmp_path / "empty", 0) as peer:
            peers = start_again(peer)  # a busy machine starts nothing at once
            again = start_again(relay)
        assert relay.waiting() == QUEUED
        after = relay.resident()
    print(f"{QUEUED} queued: peak {memory.highest / MB:.0f} MB resident, list {took:.1f} s")
    print(f"accepting again after {again:.2f} s, an empty one {peers:.2f} s, with {after / MB:.0f} MB")
    print("\n".join(f"    {seconds:.2f} s  relay queue list {words}" for words, seconds in pages.items()))
    assert max(memory.highest, after) < 150 * MB
    assert again < max(2.0, 1.5 * peers) or not FULL
    assert pages[""] < 0.5 or not FULL
    assert max(pages.values()) < 2.5 or not FULL


def start_again(relay: RelayProcess) -> float:
    """Seconds from a start after kill -9 until it accepts."""
    relay.kill9()
    return relay.start()


FILTERS = (
    ("",),
    ("--lane", "route:all"),
    ("--to", f"{QUEUED - BY_FRONT - 1}many@example.com"),  # late
    ("--to", "nobody@example.org"),
    ("--from", "@example.org"),
    ("--from", "<>"),
    ("--to", "jürgen@example.org"),
    ("--state", "hold"),
)


def first_page(relay: RelayProcess, *words: str) -> float:
    """Seconds until `relay queue list` says something, its own start included; the median of some."""
    times = []
    for _ in range(5 if FULL else 1):
        begun = time.monotonic()
        with relay.popen("queue", "list", *filter(None, words)) as process:
            assert process.stdout
            assert process.stdout.readline()
            times.append(time.monotonic() - begun)
            process.kill()
    return median(times)


def stream_list(relay: RelayProcess) -> int:
    """Lines of `relay queue list --json`."""
    with relay.popen("queue", "list", "--json") as process:
        assert process.stdout
        rows = 0
        for line in process.stdout:
            rows += 1
            if rows % 10_000 == 1:
                json.loads(line)
    assert process.returncode == 0
    return rows


@pytest.mark.timeout(900)
def test_mail_comes_in_as_fast_beside_a_long_queue(tmp_path: Path) -> None:
    """Rounds by turns with a relay that has next to nothing in its queue."""
    with waiting_relay(tmp_path / "full", QUEUED) as full, waiting_relay(tmp_path / "empty", 0) as empty:
        ratios = []
        for number in range(ROUNDS):
            pair = (full, empty) if number % 2 else (empty, full)
            rates = {relay: accept_rate(relay) for relay in pair}
            ratios.append(rates[full] / rates[empty])
        assert full.waiting() - empty.waiting() == QUEUED
    print(
        f"accepting beside {QUEUED} queued: {median(ratios):.2f} of an empty queue's rate {rounded(ratios)}"
    )
    assert median(ratios) > 0.8 or not FULL


def accept_rate(relay: RelayProcess) -> float:
    """Messages of 1 KB a second, over kept connections."""
    begun = time.monotonic()
    source(relay.smtp_port, 20, A_ROUND, 1024)
    return A_ROUND / (time.monotonic() - begun)


def rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]


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
