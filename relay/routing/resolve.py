"""From a lane's policy to the hosts to try, or to a verdict.

    survey (asks: inquiry.py) -> findings, one per host -> judge (pure) -> Hosts | DnsFailed | DnsDeferred

Permanent verdicts are: the domain does not exist (5.1.2), it takes no mail (null MX, 5.1.10), it has no MX
and no address, or MX hosts that all definitely do not exist (5.4.4), we are its best MX (5.4.6). Everything
else is temporary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from relay.config.model import Config, Delivery, Dns
from relay.observe.events import Events
from relay.routing.finding import Survey, judge
from relay.routing.hosts import Resolution
from relay.routing.identity import Identity
from relay.routing.inquiry import FAMILIES, Inquiry, Rules
from relay.routing.lookup import Lookup
from relay.routing.query import DnsClient
from relay.routing.space import AddressSpace
from relay.routing.table import LanePolicy

SURVEY_SECONDS = 30.0  # for all questions about one lane; what is not known by then is trouble


class Resolver:
    """Belongs to one event loop. Holds the DNS cache; the system's servers are read when it is made: make a
    new one on reload."""

    def __init__(
        self,
        settings: Dns,
        delivery: Delivery,
        identity: Identity,
        events: Events,
        clock: Callable[[], float] = time.monotonic,
        *,
        client: DnsClient | None = None,
        seconds: float = SURVEY_SECONDS,
    ) -> None:
        """clock: monotonic seconds, for the cache. client, seconds: other time limits than the usual.
        ValueError: an address or network is not one."""
        space = AddressSpace(delivery.allow_networks)
        self._rules = Rules(FAMILIES[delivery.ip], bool(settings.servers), space, identity)
        self._events = events
        self._seconds = seconds
        self._lookup = Lookup(client or DnsClient(settings.servers), events, clock)

    @classmethod
    def of(cls, config: Config, events: Events, clock: Callable[[], float] = time.monotonic) -> Resolver:
        return cls(config.dns, config.delivery, Identity.of(config), events, clock)

    async def hosts(self, policy: LanePolicy) -> Resolution:
        """Where the lane's mail can go now. ValueError for a capture lane: it has no hosts."""
        return judge(await self.survey(policy))

    async def survey(self, policy: LanePolicy, *, complete: bool = False) -> Survey:
        """What the DNS says about the lane. complete: every host, also those that no attempt would get to."""
        inquiry = Inquiry(
            self._rules, self._lookup, self._events, asyncio.get_running_loop().time() + self._seconds
        )
        if policy.kind == "capture":
            raise ValueError(f"lane {policy.lane} is a directory: it has no hosts")
        if policy.kind == "via":
            return await inquiry.via(policy.via)
        if policy.domain.startswith("["):
            return inquiry.literal(policy.domain, policy.port)
        return await inquiry.mx(policy.domain, policy.port, complete)

    async def close(self) -> None:
        """Ends the queries under way."""
        await self._lookup.close()
