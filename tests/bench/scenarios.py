"""What is measured, and what is wanted of it. A new scenario is a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench import latency
from bench.backlog import backlog
from bench.bed import Effort
from bench.load import Load
from bench.memory import memory
from bench.relays import Kind
from bench.report import Figure
from bench.syncs import slow_sync, syncs
from bench.throughput import Raw, throughput

MIB = 2**20
SMALLD = Load(40_000)


@dataclass(frozen=True)
class Scenario:
    """run: one run of one server. alone: without Postfix. needs: programs of others, beside the load's."""

    title: str
    run: Callable[[Kind, Effort], Raw]
    figures: tuple[Figure, ...]
    alone: bool = False
    needs: tuple[str, ...] = ()


def rates(times: float | None = None, part: float | None = None) -> tuple[Figure, ...]:
    """times: of Postfix's messages a second; part: of Postfix's CPU a message."""
    return (
        Figure("rate", "messages/s, end to end", True, ratio=times),
        Figure("accept", "messages/s, accepted", True),
        Figure("cpu", "CPU a message, ms", False, 3, ratio=part),
    )


def waits(what: str, name: str, most: float | None) -> tuple[Figure, ...]:
    """most: of Postfix's."""
    return (
        Figure(f"{name}_p50", f"{what}, median, ms", False, 2, ratio=most),
        Figure(f"{name}_p99", f"{what}, p99, ms", False, 2, ratio=most),
    )


def loads(title: str, load: Load, times: float, part: float) -> Scenario:
    return Scenario(title, partial(throughput, load=load), rates(times, part))


SCENARIOS: dict[str, Scenario] = {
    "smalld": loads("1 KB, 20 kept connections", SMALLD, 4.5, 1 / 8),
    "small": loads("1 KB, 20 at a time, a connection each", Load(20_000, kept=False), 3, 1 / 5),
    "medium": loads("50 KB, 20 kept connections", Load(20_000, 50 * 1024), 2.5, 1 / 5),
    "large": loads("5 MB, 10 kept connections", Load(500, 5 * MIB, 10), 1.5, 1 / 3),
    "rcpt50": loads("1 KB, 50 recipients each, 20 kept connections", Load(4_000, recipients=50), 4, 1 / 7),
    "lat": Scenario(
        "one client, one message of 1 KB after another",
        latency.idle,
        (*waits('"." to 250', "accept", 1), *waits("250 to arrival", "forward", 1)),
    ),
    "load-lat": Scenario(
        "such clients beside 20 kept connections",
        partial(latency.loaded, load=SMALLD),
        (
            Figure("accept_p50", '"." to 250, median, ms', False, 2),
            Figure("accept_p99", '"." to 250, p99, ms', False, 2, ratio=1),
        ),
    ),
    "backlog": Scenario(
        "20,000 messages to a next hop that says 450, then opens",
        backlog,
        (
            Figure("accept", "messages/s, accepted", True, ratio=3),
            Figure("drain", "messages/s, drained", True, ratio=3),
            Figure("list", "the queue listed, s", False, 2),
            Figure("restart", "stopped and started again, s", False, 2),
        ),
    ),
    "tls": Scenario(
        "1 KB, 20 kept connections, TLS in and out",
        partial(throughput, load=SMALLD, tls=True),
        (*rates(), Figure("tls", "TLS version", True, 1)),
        needs=("haproxy",),
    ),
    "syncs": Scenario(
        "1 KB, 20 kept connections",
        partial(syncs, load=SMALLD),
        (Figure("syncs", "syncs a message", False, 3, value=0.15),),
        needs=("strace",),
    ),
    "slow-sync": Scenario(
        "1 KB, 200 kept connections, each sync 10 ms longer",
        partial(slow_sync, load=Load(40_000, sessions=200)),
        (
            Figure("plain", "messages/s, not delayed", True),
            Figure("slowed", "messages/s, delayed", True),
            Figure("kept", "the part that is left", True, 2, value=0.6),
        ),
        needs=("strace",),
    ),
    "memory": Scenario(
        "5 MB, 100 kept connections",
        partial(memory, load=Load(500, 5 * MIB, 100)),
        (
            Figure("peak", "resident at most, MB", False, value=200),
            Figure("rate", "messages/s, end to end", True),
        ),
        alone=True,
    ),
}  # fmt: skip
