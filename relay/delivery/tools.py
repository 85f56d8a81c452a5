"""What all lanes share: the queue, the clock, the limits, the ways out. Made once, by the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from relay.delivery.dial import Dialer
from relay.delivery.faults import Faults
from relay.delivery.neighbours import Clock, Queue, Table
from relay.delivery.pool import Pool
from relay.delivery.settling import Settling
from relay.delivery.throttle import Throttles
from relay.observe.events import Events
from relay.routing.table import LanePolicy

if TYPE_CHECKING:
    from relay.delivery.lane import Lane


@dataclass(frozen=True, slots=True)
class Bounds:
    """Promise 7: entries in hand (`held` for fresh mail and refills, `held_most` so that a lane with nothing
    in hand still gets one), lanes in memory, remembered suspensions, those of which only the numbers are
    kept, octets of content that wait in memory; seconds."""

    held: int = 3000
    held_most: int = 5000
    lanes: int = 2000
    suspended: int = 10_000
    away: int = 100_000
    memory: int = 32 * 2**20
    per_connection: int = 5  # entries that may wait in a lane for each connection of its concurrency
    probes: int = 100  # at once
    idle: float = 10.0  # a kept connection is closed after
    attempt: float = 3600.0  # plus a second for each KB: the watchdog's patience with one attempt
    tick: float = 0.5


@dataclass(slots=True)
class Tools:
    queue: Queue
    table: Table
    events: Events
    clock: Clock
    random: Random
    dialer: Dialer
    pool: Pool
    settling: Settling
    faults: Faults
    bounds: Bounds
    suspended: Callable[[Lane], None]  # a lane got into trouble: keep its condition, drop the lane
    resumed: Callable[[Lane], None]  # its probe got through
    throttles: Throttles
    lanes: dict[str, Lane] = field(default_factory=dict)  # those that take or probe, by name
    shares: dict[str, Pool] = field(default_factory=dict)  # of routes by MX: a pool for all their lanes
    stopping: bool = False
    memory: int = 0  # octets of content of entries that wait
    opening: set[asyncio.Task[Any]] = field(default_factory=set)  # may be cancelled at any time
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)  # must end by themselves

    @property
    def crowded(self) -> bool:
        """True when there are so many lanes in memory that who only waits should leave."""
        return 2 * len(self.lanes) > self.bounds.lanes

    def room(self, lane_is_empty: bool) -> int:
        """How many more entries may be leased now; one for a lane with nothing in hand while there is any
        room."""
        held = self.settling.held
        if held < self.bounds.held:
            return self.bounds.held - held
        return int(lane_is_empty and held < self.bounds.held_most)

    def places(self, policy: LanePolicy) -> Pool:
        """Where a lane takes places for its connections: its route may have a limit over all its lanes."""
        if policy.kind != "mx" or policy.route == "mx":
            return self.pool
        share = self.shares.get(policy.route)
        if share is None:
            share = self.shares[policy.route] = Pool(None, within=self.pool)
        share.limit = policy.connections
        return share

    def spawn(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[Any]]) -> None:
        """Run `work` as a task in one of our sets; what it raises is a bug, told once."""
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, tasks))

    def _ended(self, task: asyncio.Task[None], tasks: set[asyncio.Task[Any]]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.events.bug("delivery", error)
