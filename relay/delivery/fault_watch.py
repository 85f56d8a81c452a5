"""Looking after the faults of routes: changed secrets, and probes of single hosts while the lane goes on.

Where the whole lane is suspended its own probe does it (suspension.py).
"""

from __future__ import annotations

import asyncio

from relay.delivery.dial import BUDGET, NoSuchHost, Unreachable
from relay.delivery.failure import OpenFailed
from relay.delivery.faults import Key
from relay.delivery.lane import Lane
from relay.delivery.suspension import Suspended
from relay.delivery.tools import Tools
from relay.routing.table import LanePolicy


class FaultWatch:
    """One for all routes. probing: hosts that are being asked, and the lane that counts the connection."""

    def __init__(self, tools: Tools, suspended: Suspended) -> None:
        self.probing: dict[Key, Lane | None] = {}
        self._tools, self._suspended = tools, suspended

    def sweep(self, now: float) -> None:
        """now: monotonic seconds."""
        tools = self._tools
        if not tools.faults.records or tools.stopping:
            return
        for route in tools.faults.changed(now):
            self._suspended.hasten(f"route:{route}")
        for key in tools.faults.due(now):
            lane = f"route:{key[0]}"
            asked = key in self.probing or lane in self._suspended.records or lane in self._suspended.probing
            policy = tools.table.policy(lane)
            if policy is not None and not asked:
                self._begin(key, policy)

    def counts(self, lane: Lane) -> None:
        """It came into memory: what is under way to its hosts is a connection of it."""
        for key, counting in self.probing.items():
            if counting is None and lane.name == f"route:{key[0]}":
                self.probing[key] = lane
                lane.links.abroad += 1

    def _begin(self, key: Key, policy: LanePolicy) -> None:
        """Not now, where it would be one connection too many."""
        tools = self._tools
        lane = tools.lanes.get(policy.lane)
        if (lane is not None and lane.links.full) or not tools.pool.try_reserve():
            return
        self.probing[key] = None
        if lane is not None:
            self.counts(lane)
        tools.spawn(self._probe(key, policy), tools.opening)

    async def _probe(self, key: Key, policy: LanePolicy) -> None:
        """A session with this host, closed at once: what it ended as is told to the faults by the dialer."""
        tools, link = self._tools, None
        try:
            async with asyncio.timeout(BUDGET):
                for target in await tools.dialer.addresses(policy):
                    if (target.name, target.port) == key[1:]:
                        link = await tools.dialer.open(target, policy)
                        link.close()
                        return
        except (NoSuchHost, Unreachable, OpenFailed, TimeoutError):
            return  # the fault stands
        finally:
            lane = self.probing.pop(key)
            tools.pool.release()
            tools.pool.serve()
            if lane is not None:
                if link is not None:
                    lane.links.leaves(link)
                lane.links.abroad -= 1
                lane.pump()
