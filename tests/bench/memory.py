"""Resident memory while many clients send large messages."""

from __future__ import annotations

from bench import process
from bench.bed import Effort, bed
from bench.load import Load
from bench.relays import Kind
from bench.throughput import Raw, measured


def memory(kind: Kind, effort: Effort, load: Load) -> Raw:
    """peak: MB that the server's first process ever had resident: of a server that is one process."""
    with bed(kind, effort) as made:
        raw = measured(made, made.warm(load))
        peak = process.peak(made.server.root)
    return {"messages": raw["messages"], "rate": raw["rate"], "lost": raw["lost"], "peak": peak / 1e6}
