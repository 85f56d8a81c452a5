"""The delivering half of a relay in the test's own loop: Delivering.

Real queue on disk, real connections, the events written down; no front. The clock may be wound on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fakes.delivery import FakeEvents

from mailqueue import Message, Options, Queue, Recipient
from relay.config.model import Config, Retry, Route
from relay.delivery.opening import Opening, open_connection
from relay.delivery.reports import Reports
from relay.delivery.scheduler import Scheduler
from relay.delivery.tools import Bounds
from relay.envelope import Envelope
from relay.routing.resolve import Resolver
from relay.routing.table import RouteTable

LANE = "route:hop"


class WoundClock:
    """The real time, and what the test has wound it on."""

    def __init__(self) -> None:
        self.on = 0.0

    def time(self) -> float:
        return time.time() + self.on

    def monotonic(self) -> float:
        return time.monotonic() + self.on


class Delivering:
    """One route to `via` (several: in order), with more keys of a route in `limits`."""

    def __init__(self, spool: Path, *via: str, retry: Retry | None = None, **limits: Any) -> None:
        hops = via[0] if via[0].startswith("capture:") else via
        routes = (Route(name="hop", via=hops, tls="none", **limits),)
        self.config = Config(hostname="relay.example", routes=routes, retry=retry or Retry())
        self.spool = spool
        self.events = FakeEvents()
        self.clock = WoundClock()

    @asynccontextmanager
    async def running(self, patience: float = 2.0) -> AsyncIterator[Delivering]:
        config, events = self.config, self.events
        self.queue = await Queue.open(self.spool, Options(reserve=0, ballast=0))
        table, resolver = RouteTable(config), Resolver.of(config, events)
        opener = partial(open_connection, opening=Opening(config.hostname, events))
        reports = Reports(config, table, events)
        self.scheduler = Scheduler(
            config, self.queue, table, resolver, events, self.clock, random.Random(),
            opener=opener, reporter=reports, bounds=Bounds(tick=0.05),
        )  # fmt: skip
        self.scheduler.start()
        try:
            yield self
        finally:
            await self.scheduler.stop(patience)
            await resolver.close()
            await self.queue.close()

    async def accept(self, *addresses: str, options: str = "") -> int:
        recipients = [Recipient(address, options) for address in addresses]
        content = b"Subject: x\r\n\r\nhello\r\n"
        message = Message("from@client.example", {LANE: recipients}, content, Envelope().pack())
        return await self.queue.accept(message)


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that happens by itself; TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  other people's objects, no events to wait for
            await asyncio.sleep(0.005)


def waiting(relay: Delivering) -> int:
    return sum(tally.entries for tally in relay.queue.stats().values())
