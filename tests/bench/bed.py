"""A server between a load and a sink, warmed up: what every scenario starts from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench import process
from bench.load import Load, send
from bench.over_tls import Tunnel, tunnel
from bench.relays import Kind, Server
from bench.sink import Sink

PATIENCE = 240.0  # s until everything that was accepted has arrived
QUIET = 0.02  # of a core, while nothing is asked of a server


@dataclass(frozen=True)
class Effort:
    """seconds: how long a load should last; part: of the usual number of messages, at most; rest: how long a
    server has to be quiet before it counts as at rest (s)."""

    seconds: float = 8.0
    part: float = 1.0
    rest: float = 0.5

    def of(self, messages: int, least: int = 40) -> int:
        return max(least, int(messages * self.part))


FULL, QUICK = Effort(), Effort(1.0, 0.05, 0.1)


@dataclass
class Bed:
    """port: where the load goes: the server's own, or that of what adds TLS before it."""

    server: Server
    sink: Sink
    port: int
    tunnel: Tunnel | None
    effort: Effort

    def deliver(self, load: Load) -> None:
        """All of a load arrives; its numbers are forgotten."""
        send(self.port, load)
        self.sink.wait(load.messages * load.recipients, PATIENCE)
        self.sink.forget()

    def warm(self, load: Load) -> Load:
        """A part of the load first, which wakes the server and tells how much it takes in the time wanted."""
        most = self.effort.of(load.messages, load.sessions)
        first = load.of(max(2 * load.sessions, most // 40))
        begun = time.monotonic()
        self.deliver(first)
        rate = first.messages / (time.monotonic() - begun)
        self.settle()
        return load.of(min(most, max(first.messages, round(rate * self.effort.seconds))))

    def settle(self, seconds: float = 10.0) -> None:
        """Until the server rests, at most so long."""
        deadline, before = time.monotonic() + seconds, process.spent(self.server.root)
        while time.monotonic() < deadline:
            time.sleep(self.effort.rest)
            now = process.spent(self.server.root)
            if now - before <= QUIET * self.effort.rest:
                return
            before = now


@contextmanager
def bed(kind: Kind, effort: Effort, *, tls: bool = False, prefix: Sequence[str] = ()) -> Iterator[Bed]:
    """tls: spoken by the server on both sides. prefix: what it runs under."""
    with ExitStack() as stack:
        sink = stack.enter_context(Sink())
        outer = stack.enter_context(tunnel(sink.port)) if tls else None
        server = kind(outer.hop if outer else sink.port, outer.certificate if outer else None, prefix)
        stack.push(server.__exit__)  # it has a directory, and soon processes
        if outer:
            outer.open(server.port)
        server.start()
        yield Bed(server, sink, outer.source if outer else server.port, outer, effort)
