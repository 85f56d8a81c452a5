"""From a lane's policy to one open connection: DNS, then the addresses of one attempt in order.

At most five addresses (routing gives no more), two sessions that got past the greeting, one time budget. An
address that failed a short while ago goes to the end of the line: a dead first MX costs its time-out once,
not each time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol

from relay.delivery.failure import OpenFailed
from relay.delivery.faults import Faults
from relay.delivery.health import Trouble
from relay.delivery.pool import Link
from relay.reply import Reply
from relay.routing.hosts import DnsDeferred, DnsFailed, Resolution
from relay.routing.table import LanePolicy
from relay.routing.target import Target

SESSIONS = 2  # past the greeting, per attempt
BUDGET = 600.0  # seconds to find an open connection in
_BAD_FOR = 300.0  # seconds an address that failed is tried last
_BAD_MOST = 4096  # addresses remembered
_DEPTH = ("dns", "address", "connect", "greeting", "tls", "token", "auth")  # how far a failure got

Opener = Callable[[Target, LanePolicy], Awaitable[Link]]


class Hosts(Protocol):
    """What is needed of routing.resolve.Resolver."""

    async def hosts(self, policy: LanePolicy) -> Resolution: ...


class NoSuchHost(Exception):
    """DNS says for good that this mail can go nowhere. reply: for Failed(reply, stage="dns")."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.line)
        self.reply = reply


class Unreachable(Exception):
    """No address gave a session. trouble: that of the address where it got farthest."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reply.line)
        self.trouble = trouble


class Dialer:
    """One for all lanes: remembers bad addresses."""

    def __init__(
        self,
        resolver: Hosts,
        opener: Opener,
        random: Random,
        monotonic: Callable[[], float],
        faults: Faults,
    ) -> None:
        self.resolver = resolver
        self.faults = faults
        self._open = opener
        self._random = random
        self._now = monotonic
        self._bad: OrderedDict[tuple[str, int], float] = OrderedDict()

    def usable(self, policy: LanePolicy, targets: list[Target]) -> list[Target]:
        """Those whose host has no fault, or may be asked again."""
        if not self.faults.records:
            return targets
        return [target for target in targets if not self.faults.blocks(policy, target)]

    async def addresses(self, policy: LanePolicy) -> list[Target]:
        """The addresses of one attempt, the lately bad ones last. Raises NoSuchHost, Unreachable."""
        resolution = await self.resolver.hosts(policy)
        if isinstance(resolution, DnsFailed):
            raise NoSuchHost(resolution.reply)
        if isinstance(resolution, DnsDeferred):
            raise Unreachable(Trouble(resolution.reason, resolution.reply))
        targets = resolution.targets(self._random)
        return sorted(targets, key=self._is_bad) if self._bad else targets

    async def open(self, target: Target, policy: LanePolicy) -> Link:
        """One session with one target, remembered as bad when it fails. Raises OpenFailed."""
        where = (target.address, target.port)
        self.faults.trying(policy, target)
        try:
            link = await self._open(target, policy)
        except OpenFailed as failure:
            self.faults.failed(policy, target, failure)
            self._bad[where] = self._now() + _BAD_FOR
            self._bad.move_to_end(where)
            while len(self._bad) > _BAD_MOST:
                self._bad.popitem(last=False)
            raise
        self._bad.pop(where, None)
        self.faults.opened(policy, target)
        return link

    async def dial(self, policy: LanePolicy) -> tuple[Link, Target, int]:
        """A connection, where it goes, and how many targets there were. Raises NoSuchHost, Unreachable."""
        troubles: list[Trouble] = []
        try:
            async with asyncio.timeout(BUDGET):
                targets = await self.addresses(policy)
                return await self._first(targets, policy, troubles)
        except TimeoutError:
            if not troubles:
                troubles = [Trouble("connect", Reply(0, "4.4.1", f"no connection within {BUDGET:.0f} s"))]
            raise Unreachable(self._trouble(policy, troubles)) from None

    async def _first(
        self, targets: Sequence[Target], policy: LanePolicy, troubles: list[Trouble]
    ) -> tuple[Link, Target, int]:
        sessions = 0
        for target in targets:
            if not self.usable(policy, [target]):  # its host may have been asked by another address just now
                continue
            try:
                return await self.open(target, policy), target, len(targets)
            except OpenFailed as failed:
                troubles.append(Trouble(failed.kind, failed.reply, failed.host))
                sessions += failed.greeted
                if sessions >= SESSIONS:
                    break
        raise Unreachable(self._trouble(policy, troubles))

    def _trouble(self, policy: LanePolicy, troubles: Sequence[Trouble]) -> Trouble:
        """What to say of an attempt that ended with these; a fault that stands is one of them. With faults at
        every host it is of no use to ask before the first of them may be asked."""
        standing = [fault.trouble for fault in self.faults.of(policy.route)]
        none = Trouble("address", Reply(0, "4.4.4", "no address to connect to"))
        worst = _farthest([*standing, *troubles]) or none
        return replace(worst, not_before=self.faults.closed_until(policy) or 0.0)

    def _is_bad(self, target: Target) -> bool:
        return self._bad.get((target.address, target.port), 0.0) > self._now()


def _farthest(troubles: Sequence[Trouble]) -> Trouble | None:
    """The one that says most: a refused log-in tells more than the dead host behind it. The last among
    equals."""
    return max(reversed(troubles), key=lambda trouble: _DEPTH.index(trouble.reason), default=None)
