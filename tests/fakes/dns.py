"""A resolver over a SmallDns, with its time limits and events that remember."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from relay.config.model import Config
from relay.demo.dns import Record, SmallDns
from relay.observe.events import Events
from relay.routing.hosts import DnsDeferred, DnsFailed, Hosts, Resolution
from relay.routing.identity import Identity
from relay.routing.query import DnsClient
from relay.routing.resolve import Resolver
from relay.routing.table import RouteTable

Records = dict[str, list[Record]]
A1, A2, A3 = ("A", "192.0.2.1"), ("A", "192.0.2.2"), ("A", "192.0.2.3")
SIX = ("AAAA", "2001:db8::1")


def mx(*pairs: tuple[int, str]) -> list[Record]:
    """(preference, host) pairs as records."""
    return [("MX", f"{preference} {host}.") for preference, host in pairs]


class RoutingEvents(Events):
    """Keeps what routing tells."""

    def __init__(self) -> None:
        self.lookups: list[tuple[str, str]] = []
        self.refused: list[tuple[str, str]] = []

    def dns_lookup(self, kind: str, result: str) -> None:
        self.lookups.append((kind, result))

    def refused_address(self, domain: str, address: str) -> None:
        self.refused.append((domain, address))


@dataclass
class World:
    """A small DNS, a route table and a resolver that asks it."""

    dns: SmallDns
    table: RouteTable
    resolver: Resolver
    events: RoutingEvents = field(default_factory=RoutingEvents)

    async def resolve(self, recipient: str, sender: str = "a@sender.test") -> Resolution:
        policy = self.table.policy(self.table.lane(sender, recipient))
        assert policy is not None
        return await self.resolver.hosts(policy)

    async def hosts(self, recipient: str) -> list[tuple[str, tuple[str, ...], int]]:
        """(name, sorted addresses, preference) of what must resolve."""
        found = await self.resolve(recipient)
        assert isinstance(found, Hosts), found
        return [(host.name, tuple(sorted(host.addresses)), host.preference) for host in found.hosts]

    async def verdict(self, recipient: str) -> tuple[str, str]:
        """("failed", enhanced code), or ("dns" or "address", enhanced code) of what must not resolve."""
        found = await self.resolve(recipient)
        assert isinstance(found, DnsFailed | DnsDeferred), found
        return found.reason if isinstance(found, DnsDeferred) else "failed", found.reply.enhanced


SHORT, USUAL = 0.4, 4.0  # seconds for a question: SHORT where nobody answers, it is too few on a busy machine


def short_client(servers: Iterable[str], question_seconds: float = USUAL) -> DnsClient:
    """A try takes a quarter of the question's time."""
    return DnsClient(tuple(servers), try_seconds=question_seconds / 4, question_seconds=question_seconds)


@asynccontextmanager
async def world(
    records: Mapping[str, Iterable[Record]],
    *,
    clock: Callable[[], float] = monotonic,
    seconds: float = 20.0,
    question_seconds: float = USUAL,
    more_servers: Iterable[str] = (),
    **config: Any,
) -> AsyncIterator[World]:
    """records as SmallDns takes them; config: keys of the configuration; seconds: the budget of one lane,
    question_seconds: of one question."""
    async with SmallDns(records) as dns:
        servers = (dns.address, *more_servers)
        settings = Config.model_validate(
            {"hostname": "relay.sender.test", "dns": {"servers": servers}, **config}
        )
        events = RoutingEvents()
        resolver = Resolver(
            settings.dns,
            settings.delivery,
            Identity.of(settings),
            events,
            clock,
            client=short_client(settings.dns.servers, question_seconds),
            seconds=seconds,
        )
        try:
            yield World(dns, RouteTable(settings), resolver, events)
        finally:
            await resolver.close()
