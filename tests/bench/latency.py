"""How long a client waits for 250, and a message for its arrival: alone, and under load. Milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.bed import PATIENCE, Effort, bed
from bench.client import Client, Timed, content
from bench.load import Load
from bench.relays import Kind
from bench.throughput import Raw, measured

MESSAGES = 1000  # one after another
PROBES = 4  # clients beside the load
FIRST_PROBE = 10_000_000  # their recipients' numbers; the load's begin with 1
TEXT = content(1024)


def idle(kind: Kind, effort: Effort) -> Raw:
    """One client with one connection, one message after another: "." to 250, and 250 to arrival."""
    count = effort.of(MESSAGES)
    with bed(kind, effort) as made, Client(made.port) as client:
        for number in range(max(20, count // 10)):
            client.send(range(number, number + 1), TEXT)
        made.sink.wait(max(20, count // 10), PATIENCE)
        made.settle()
        made.sink.forget()
        sent = [client.send(range(number, number + 1), TEXT) for number in range(count)]
        made.sink.wait(count, PATIENCE)
        arrived = made.sink.arrivals()
    accepted = [timed.answered - timed.dot for timed in sent]
    forwarded = [arrived[number] - timed.answered for number, timed in enumerate(sent)]
    return {
        "messages": count,
        "accept_p50": percentile(accepted, 0.5), "accept_p99": percentile(accepted, 0.99),
        "forward_p50": percentile(forwarded, 0.5), "forward_p99": percentile(forwarded, 0.99),
    }  # fmt: skip


def loaded(kind: Kind, effort: Effort, load: Load) -> Raw:
    """The same client four times, beside a load that asks for all the server has: "." to 250."""
    with bed(kind, effort) as made:
        load = made.warm(load)
        with probing(made.port) as timed:
            raw = measured(made, load)
    waits = [each.answered - each.dot for each in timed]
    # the probes' mail arrives beside that of the load: what the sink has too many or too few is not known
    kept = {name: raw[name] for name in ("messages", "accept", "others")}
    return kept | {
        "probes": len(waits), "accept_p50": percentile(waits, 0.5), "accept_p99": percentile(waits, 0.99)
    }  # fmt: skip


@contextmanager
def probing(port: int) -> Iterator[list[Timed]]:
    """Clients that send one message after another while this lasts; what they met."""
    over = threading.Event()
    timed: list[Timed] = []
    troubles: list[BaseException] = []

    def probe(first: int) -> None:
        try:
            with Client(port) as client:
                number = first
                while not over.is_set():
                    timed.append(client.send(range(number, number + 1), TEXT))
                    number += 1
        except BaseException as trouble:
            troubles.append(trouble)

    threads = [threading.Thread(target=probe, args=(FIRST_PROBE * (n + 1),)) for n in range(PROBES)]
    for thread in threads:
        thread.start()
    try:
        yield timed
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if troubles:
        raise troubles[0]


def percentile(seconds: Sequence[float], part: float) -> float:
    """In ms: the smallest that at least this part does not exceed (nearest rank)."""
    ordered = sorted(seconds)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)] * 1000
