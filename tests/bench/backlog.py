"""A next hop that says 450 to everybody, until it opens: accepting into a backlog, and draining it."""

from __future__ import annotations

import subprocess
import time

from bench.bed import PATIENCE, Bed, Effort, bed
from bench.load import Load, send
from bench.relays import Kind
from bench.throughput import Raw

LOAD = Load(20_000)


def backlog(kind: Kind, effort: Effort) -> Raw:
    """accept, drain: messages/s; list, restart: s; lost, twice: recipients.

    The queue is listed and the server started again in between. A drain begins with the operator's command
    and ends with the last arrival.
    """
    load = LOAD.of(effort.of(LOAD.messages))
    with bed(kind, effort) as made:
        made.deliver(LOAD.of(max(40, load.messages // 40)))
        made.settle()
        made.sink.refuse(True)
        accepted = send(made.port, load)
        tried(made, load.messages)
        listed, text = timed(made.server.listing)
        if text.count("@example.com") < load.messages:
            raise ValueError(f"the list has {text.count('@example.com')} of {load.messages} messages")
        begun = time.monotonic()
        made.server.stop()
        made.server.start()
        restarted = time.monotonic() - begun
        made.sink.refuse(False)
        begun = time.monotonic()
        timed(made.server.retrying)
        seen = made.sink.wait(load.messages, PATIENCE)
        made.settle(3)
        late = made.sink.seen()
    return {
        "messages": load.messages,
        "accept": load.messages / accepted.seconds,
        "drain": load.messages / (seen.last - begun),
        "list": listed,
        "restart": restarted,
        "lost": load.messages - late.distinct,
        "twice": late.recipients - late.distinct,
    }


def tried(made: Bed, messages: int) -> None:
    """Returns when every message was refused and the server rests."""
    deadline = time.monotonic() + PATIENCE
    while made.sink.seen().refused < messages:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{made.sink.seen().refused} of {messages} messages tried in {PATIENCE:g} s")
        time.sleep(0.1)
    made.settle()


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds that an operator's command took, and what it printed; CalledProcessError when it failed."""
    begun = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
    return time.monotonic() - begun, done.stdout
