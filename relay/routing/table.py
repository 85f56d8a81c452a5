"""The route table: which lane a recipient goes, and what a lane name means.

Compiled once from the configuration; a reload builds a new one. Lane names are opaque to the queue and made
here:

    route:NAME           a route with next hops or a capture directory: everything it takes is one lane
    route:NAME:DOMAIN    a route with `via: mx`: its limits, one lane for each recipient domain
    mx:DOMAIN            no route matched

NAME has no ":" in it; DOMAIN is in lower case and A-label form, or an address literal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay.config.model import Config, Lane, Route, TlsPolicy
from relay.config.units import parse_rate
from relay.routing.login import Login
from relay.routing.pattern import Matcher, compile_patterns, fold_address
from relay.routing.via import Kind, RouteVia, Via, parse_route_via

MEMO_LIMIT = 8192  # remembered (sender domain, recipient domain) pairs; at the limit all are forgotten


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """What a lane name means under the present configuration."""

    lane: str
    route: str  # the route's name, or "mx": the label of metrics
    kind: Kind
    domain: str  # the recipient domain; "" unless kind is "mx"
    via: tuple[Via, ...]  # in order; empty unless kind is "via"
    capture: Path | None  # the directory; None unless kind is "capture"
    port: int  # for MX hosts; each Via has its own
    tls: TlsPolicy
    concurrency: int
    messages_per_connection: int
    ca_file: Path | None = None  # for verify, instead of the system's
    login: Login | None = None  # only with kind "via"
    rate: tuple[int, float] | None = None  # messages, in seconds; of the whole route, or of one domain of mx
    connections: int | None = None  # of all lanes of the route together; only with kind "mx"


@dataclass(frozen=True, slots=True)
class _Compiled:
    name: str
    to: Matcher
    sender: Matcher
    via: RouteVia
    limits: Route


class RouteTable:
    """`lane` is called once per recipient: a dictionary look-up for a pair of domains seen before."""

    def __init__(self, config: Config) -> None:
        """ValueError: a wrong pattern or via, a route name with a ":", twice the same name, or the name
        "mx"."""
        self._mx = config.mx
        self._routes: dict[str, _Compiled] = {}
        for place, route in enumerate(config.routes, 1):
            compiled = _compile(route, route.name or str(place))
            if compiled.name in self._routes:
                raise ValueError(f"two routes are named {compiled.name!r}")
            self._routes[compiled.name] = compiled
        routes = self._routes.values()
        self._by_sender = any(not route.sender.everything for route in routes)
        # In these domains the lane depends on more than the domain: nothing is remembered of them.
        self._to_domains = _domains(route.to for route in routes)
        self._from_domains = _domains(route.sender for route in routes)
        self._memo: dict[object, str] = {}

    @property
    def routes(self) -> tuple[str, ...]:
        """Names in the order of the configuration, for metrics and `explain`."""
        return tuple(self._routes)

    def lane(self, sender: str, recipient: str) -> str:
        """The lane of one recipient: the first route that takes it, else its domain's MX. sender "" is the
        null sender. Never raises."""
        _, at, domain = recipient.rpartition("@")
        if not at:
            return self._find(sender, recipient)
        key: object = domain
        if self._by_sender:
            _, at, from_domain = sender.rpartition("@")
            key = (at, from_domain, domain)
        return self._memo.get(key) or self._remember(key, sender, recipient)

    def match(self, sender: str, recipient: str) -> str:
        """The name of the route that takes this recipient, or "mx"."""
        route = self._match(sender, recipient)
        return route.name if route else "mx"

    def policy(self, lane: str) -> LanePolicy | None:
        """What a lane name means; None when it means nothing (any more): ask `lane` again for its
        recipients."""
        kind, _, rest = lane.partition(":")
        if kind == "mx":
            return _policy(lane, "mx", "mx", rest, RouteVia("mx"), self._mx.port, self._mx)
        name, colon, domain = rest.partition(":")
        route = self._routes.get(name) if kind == "route" else None
        if route is None or bool(colon) != (route.via.kind == "mx"):
            return None
        return _policy(lane, name, route.via.kind, domain, route.via, self._mx.port, route.limits)

    def _remember(self, key: object, sender: str, recipient: str) -> str:
        lane = self._find(sender, recipient)
        to_domain, from_domain = fold_address(recipient)[1], fold_address(sender)[1]
        if to_domain not in self._to_domains and from_domain not in self._from_domains:
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[key] = lane
        return lane

    def _find(self, sender: str, recipient: str) -> str:
        domain = fold_address(recipient)[1]
        route = self._match(sender, recipient)
        if route is None:
            return f"mx:{domain}"
        return f"route:{route.name}:{domain}" if route.via.kind == "mx" else f"route:{route.name}"

    def _match(self, sender: str, recipient: str) -> _Compiled | None:
        to, to_domain = fold_address(recipient)
        from_, from_domain = fold_address(sender)
        for route in self._routes.values():
            if route.to.matches(to, to_domain) and route.sender.matches(from_, from_domain):
                return route
        return None


def _domains(matchers: Iterable[Matcher]) -> frozenset[str]:
    """The domains of which full addresses are named."""
    return frozenset(address.rpartition("@")[2] for matcher in matchers for address in matcher.addresses)


def _compile(route: Route, name: str) -> _Compiled:
    if ":" in name:
        raise ValueError(f"route name {name!r}: write it without a colon")
    if name == "mx":
        raise ValueError("route name 'mx' means mail without a route: choose another")
    return _Compiled(
        name,
        compile_patterns(route.to),
        compile_patterns(route.from_, sender=True),
        parse_route_via(route.via),
        route,
    )


def _policy(
    lane: str, route: str, kind: Kind, domain: str, via: RouteVia, port: int, limits: Lane
) -> LanePolicy:
    connections = limits.connections if isinstance(limits, Route) else None
    return LanePolicy(
        lane,
        route,
        kind,
        domain,
        via.hops,
        via.capture,
        port,
        limits.tls,
        min(limits.concurrency, connections or limits.concurrency),
        limits.messages_per_connection,
        ca_file=limits.ca_file,
        login=Login.of(limits) if isinstance(limits, Route) else None,
        rate=parse_rate(limits.rate) if limits.rate else None,
        connections=connections if kind == "mx" else None,
    )
