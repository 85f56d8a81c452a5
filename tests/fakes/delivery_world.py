"""A scheduler among its fakes: queue, clock, next hop, events, reporter."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

from fakes.clock import FakeClock
from fakes.delivery import FakeEvents, FakeHop, FakeReporter, FakeResolver, FakeTable, said
from fakes.delivery_queue import FakeQueue

from relay.config.model import Config
from relay.delivery.job import Verdict
from relay.delivery.scheduler import Scheduler
from relay.delivery.tools import Bounds

LANE = "mx:example.org"


@dataclass
class World:
    """A scheduler and its neighbours."""

    config: Config = field(default_factory=Config)
    table: FakeTable = field(default_factory=FakeTable)
    resolver: FakeResolver = field(default_factory=FakeResolver)
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.queue = FakeQueue(self.clock)
        self.hop = FakeHop()
        self.events = FakeEvents()
        self.reporter = FakeReporter()
        self.scheduler = Scheduler(
            self.config, self.queue, self.table, self.resolver, self.events, self.clock, Random(1),
            opener=self.hop.open, reporter=self.reporter, bounds=self.bounds,
        )  # fmt: skip
        self.scheduler.start()

    async def settle_down(self, rounds: int = 30) -> None:
        """Let everything that needs no time happen."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    async def refuse_the_login_of_one_of(self, messages: int) -> None:
        """So many messages are on their way when one meets a fault of the route: it wants a login."""
        self.hop.hold = True
        for _ in range(messages):
            self.queue.submit(LANE)
        await self.settle_down()
        link = self.hop.busy.pop(0)
        assert link.job is not None
        link.job.results[0] = said(451, "authentication required", "mail")
        link.finish(Verdict(lane="auth"))

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(int(seconds / step)):
            self.clock.advance(step)
            self.scheduler.sweep()
            await self.settle_down(6)

    async def pace(self, seconds: float, step: float = 0.01) -> list[float]:
        """Pass time in small steps; when each transaction began in it, in seconds from now."""
        began, begun = self.clock.monotonic(), len(self.hop.order)
        times: list[float] = []
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.scheduler.sweep()
            await self.settle_down(8)
            times += [self.clock.monotonic() - began] * (len(self.hop.order) - begun - len(times))
        return times

    @property
    def held(self) -> int:
        return self.scheduler.tools.settling.held

    def state(self, lane: str = LANE) -> dict[str, object]:
        return self.scheduler.lane_state(lane)
