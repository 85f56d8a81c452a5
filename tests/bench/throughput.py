"""Messages a second from the first connection to the last arrival at the next hop, and CPU a message."""

from __future__ import annotations

import time

from bench import process
from bench.bed import PATIENCE, Bed, Effort, bed
from bench.load import Load, send
from bench.relays import Kind

Raw = dict[str, float]


def throughput(kind: Kind, effort: Effort, load: Load, *, tls: bool = False) -> Raw:
    """One run of one server."""
    with bed(kind, effort, tls=tls) as made:
        raw = measured(made, made.warm(load))
        if not made.tunnel:
            return raw
        made.server.stop()  # ends its kept connections
        return raw | {"tls": made.tunnel.version()}


def measured(made: Bed, load: Load) -> Raw:
    """rate: messages/s end to end; accept: messages/s until the last 250; cpu: ms a message; others: cores
    that neither server, load nor sink used; lost, twice: recipients."""
    expected = load.messages * load.recipients
    server, idle = made.server, made.sink.seen().cpu
    begun, before, busy = time.monotonic(), process.spent(server.root), process.machine_busy()
    sent = send(made.port, load)
    seen = made.sink.wait(expected, PATIENCE)
    busy = process.machine_busy() - busy
    used = process.spent(server.root) - before
    wall = time.monotonic() - begun
    made.settle(3)  # what comes late: duplicates, removals
    late = made.sink.seen()
    cpu = process.spent(server.root) - before
    return {
        "messages": load.messages,
        "rate": load.messages / (seen.last - begun),
        "accept": load.messages / sent.seconds,
        "cpu": cpu / load.messages * 1000,
        "others": (busy - used - sent.cpu - (seen.cpu - idle)) / wall,
        "lost": expected - late.distinct,
        "twice": late.recipients - late.distinct,
    }
