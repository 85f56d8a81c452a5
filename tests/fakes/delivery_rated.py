"""Worlds with a rate: of one lane, of a route by MX, of some of the domains."""

from __future__ import annotations

from fakes.delivery import FakeTable
from fakes.delivery_world import LANE, World

from relay.routing.table import LanePolicy

FAST = (600, 60.0)
SLOW = (30, 60.0)


def limited(rate: tuple[int, float] = FAST, lane: str = LANE, **options: int) -> World:
    """A world where `lane` has a rate."""
    table = FakeTable(**options)
    table.rates[lane] = rate
    return World(table=table)


def route(rate: tuple[int, float]) -> World:
    """A world with one route by MX: all its lanes share the rate."""
    world = limited(rate, "all")
    world.table.route = "all"
    return world


class SomeSlow(FakeTable):
    """Domains with "slow" in them belong to a route with a rate, the others to nobody."""

    def policy(self, lane: str) -> LanePolicy | None:
        self.route = "slow" if "slow" in lane else "mx"
        return super().policy(lane)
