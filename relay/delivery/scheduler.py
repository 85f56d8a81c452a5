"""Who delivers what, when: the lanes in memory, the queue's hooks, the sweep, reload, stop.

    queue.admit / on_leased   fresh mail goes from the commit straight into its lane, if there is room
    queue.on_due / on_wake    something waits on disk: lanes in memory take it, others are claimed
    sweep                     one timer for all lanes: due times, idle connections, probes, lanes without work

All of it runs on the event loop and nothing here blocks. Memory follows the work in hand: entries in hand,
lanes and suspensions are bounded (Bounds), the rest waits on disk.
"""

from __future__ import annotations

import asyncio
from random import Random

from mailqueue.entry import Entry
from relay.config.model import Config
from relay.delivery.dial import Dialer, Hosts, Opener
from relay.delivery.fault_watch import FaultWatch
from relay.delivery.faults import Faults
from relay.delivery.health import HEALTHY, Condition
from relay.delivery.lane import Lane
from relay.delivery.neighbours import Clock, Queue, Reporter, Table
from relay.delivery.pool import Pool
from relay.delivery.settling import Settling
from relay.delivery.state import describe, describe_faults
from relay.delivery.stopping import stop
from relay.delivery.suspension import Suspended
from relay.delivery.throttle import Throttles
from relay.delivery.tools import Bounds, Tools
from relay.observe.events import Events

_AT_ONCE = 5  # lanes that come into memory in one turn of the loop, and probes begun: others have theirs


class Scheduler:
    """start() once the queue is open; stop() before it is closed."""

    def __init__(
        self,
        config: Config,
        queue: Queue,
        table: Table,
        resolver: Hosts,
        events: Events,
        clock: Clock,
        random: Random,
        *,
        opener: Opener,
        reporter: Reporter,
        bounds: Bounds | None = None,
    ) -> None:
        """opener: one session with one target, `partial(open_connection, opening=Opening(...))`."""
        settling = Settling(queue, events, reporter, clock, random, config.retry)
        faults = Faults(events, clock)
        dialer = Dialer(resolver, opener, random, clock.monotonic, faults)
        pool = Pool(config.delivery.connections)
        self.tools = Tools(
            queue,
            table,
            events,
            clock,
            random,
            dialer,
            pool,
            settling,
            faults,
            bounds or Bounds(),
            self._suspend,
            self._resume,
            Throttles(clock),
        )
        self.lanes = self.tools.lanes
        self.suspended = Suspended(self.tools, self._lane)
        self.fault_watch = FaultWatch(self.tools, self.suspended)
        self.parting: list[Lane] = []  # suspended while they still send something
        self._timer: asyncio.TimerHandle | None = None
        self._waking = False

    def start(self) -> None:
        """Set the queue's hooks and begin. Needs a running loop."""
        queue = self.tools.queue
        queue.admit, queue.unadmit, queue.on_leased = self.admit, self.unadmit, self.leased
        queue.on_due, queue.on_wake = self.due, self.wake
        self._tick()

    async def stop(self, seconds: float) -> None:
        """No new transactions; those past the final dot may finish within `seconds`; the rest is given
        back."""
        self.halt()
        await stop([*self.lanes.values(), *self.parting], self.tools, seconds)

    def halt(self) -> None:
        """Nothing new from now on, and no question to the queue. All of the stop when that has failed."""
        self.tools.stopping = True
        if self._timer is not None:
            self._timer.cancel()

    def reload(self, config: Config, table: Table, resolver: Hosts) -> None:
        """From now on `config` holds. What is in hand is sorted anew, the rest when it is taken."""
        tools = self.tools
        tools.table, tools.dialer.resolver = table, resolver
        tools.settling.retry = config.retry
        tools.settling.reporter.renew(config, table)
        for lane in list(self.lanes.values()):
            lane.renew(table.policy(lane.name))
        tools.faults.renew(table)
        self.suspended.reloaded()

    def hasten(self) -> None:
        """An operator wants everything tried now, next hops in trouble as well."""
        self.tools.faults.hasten()
        self.suspended.hasten()

    def faults(self) -> list[dict[str, object]]:
        """Every standing fault of a route, for `queue status`: see state.describe_faults."""
        return describe_faults(self.tools)

    def lane_state(self, name: str) -> dict[str, object]:
        """How a lane fares, for `explain` and `queue show`: see state.describe."""
        return describe(name, self.lanes.get(name), self.suspended.condition(name), self.tools)

    # --- the queue's hooks

    def admit(self, name: str) -> bool:
        """May a fresh entry of this lane be leased at once?"""
        if self.tools.stopping:
            return False
        lane = self.lanes.get(name)
        if lane is None:
            if name in self.suspended or len(self.lanes) >= self.tools.bounds.lanes:
                return False
            lane = self._lane(name, HEALTHY)
        return lane.admits()

    def unadmit(self, name: str) -> None:
        """The write of an admitted entry was rolled back."""
        lane = self.lanes.get(name)
        if lane is not None:
            lane.unadmit()

    def leased(self, entry: Entry) -> None:
        """A fresh entry is durable and ours."""
        lane = self.lanes.get(entry.lane)
        if lane is None and entry.lane not in self.suspended:
            lane = self._lane(entry.lane, HEALTHY)
        if lane is None or self.tools.stopping:
            self.tools.settling.held += 1
            self.tools.settling.give_back(entry)
        else:
            lane.leased(entry)

    def due(self, name: str) -> None:
        """Something on disk can be taken in a lane that we claimed."""
        lane = self.lanes.get(name)
        if lane is not None and not self.tools.stopping:
            lane.due()

    def wake(self) -> None:
        """A lane that nobody claimed has work earlier than it had, or a probe is due."""
        if not self._waking and not self.tools.stopping:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    # --- lanes

    def _lane(self, name: str, condition: Condition) -> Lane:
        """Make a lane and claim it."""
        lane = self.lanes[name] = Lane(name, self.tools.table.policy(name), self.tools, condition)
        lane.links.elder = next((old.links for old in reversed(self.parting) if old.name == name), None)
        self.tools.queue.claim_lane(name)
        self.fault_watch.counts(lane)
        return lane

    def _suspend(self, lane: Lane) -> None:
        del self.lanes[lane.name]
        if lane.links.total:
            self.parting.append(lane)
        else:
            lane.dissolve()
        self.suspended.add(lane)

    def _resume(self, lane: Lane) -> None:
        self.suspended.remove(lane.name)

    def _claimed(self, name: str) -> None:
        """The queue offers a lane with due work."""
        lane = self.lanes.get(name)
        if name in self.suspended.away:
            return self.suspended.recall(name)
        if lane is None and name not in self.suspended:
            lane = self._lane(name, HEALTHY)
        if lane is not None:
            lane.due()

    # --- the sweep

    def _tick(self) -> None:
        """One timer for everything that waits for time."""
        try:
            self.sweep()
        except Exception as error:
            self.tools.events.bug("sweep", error)
        self._timer = asyncio.get_running_loop().call_later(self.tools.bounds.tick, self._tick)

    def sweep(self) -> None:
        """What is due by now. Bounded by the lanes in memory."""
        tools = self.tools
        now, wall = tools.clock.monotonic(), tools.clock.time()
        tools.settling.ages.look()
        patience = tools.bounds.tick if tools.crowded else tools.bounds.idle
        for link, holder in tools.pool.stale(now - patience):
            holder.give_up(link)
        for lane in list(self.lanes.values()):
            self._sweep_lane(lane, now)
        for lane in self.parting:
            lane.carrier.watch(now)
            if not lane.links.total:
                lane.dissolve()
        self.parting = [lane for lane in self.parting if lane.links.total]
        self.fault_watch.sweep(now)
        for pool in (tools.pool, *tools.shares.values()):
            pool.serve()
        wake = tools.queue.next_wake()
        if self.suspended.due(now) or (wake is not None and wake <= wall):
            self.wake()

    def _sweep_lane(self, lane: Lane, now: float) -> None:
        """A bug in one lane must not keep the others from being looked at."""
        quiet = False
        try:
            lane.sweep(now)
            quiet = lane.quiet
        except Exception as error:
            self.tools.events.bug("lane", error)
        if quiet and self.lanes.get(lane.name) is lane:
            del self.lanes[lane.name]
            lane.leave()
            lane.dissolve()
            away = lane.away - self.tools.clock.monotonic()
            self.tools.queue.unclaim(lane.name, self.tools.clock.time() + away if away > 0 else 0.0)

    def _wake(self) -> None:
        """A few of the lanes that are due, and more in the next turn of the loop."""
        self._waking = False
        if self.tools.stopping:
            return
        more = self.suspended.probe_due(self.tools.clock.monotonic(), _AT_ONCE)
        if self._claim() or more:
            self.wake()

    def _claim(self) -> bool:
        """Lanes that are due and that nobody has. True when there may be more."""
        tools = self.tools
        room = min(_AT_ONCE, tools.bounds.lanes - len(self.lanes))
        if room <= 0 or not tools.room(True):
            return False
        names = tools.queue.claim(room, tools.clock.time())
        for name in names:
            self._claimed(name)
        return len(names) == room
