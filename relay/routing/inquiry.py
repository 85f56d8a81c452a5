"""The questions about one lane, asked within one time budget.

MX hosts are asked about in the order of preference, and no further than an attempt can use. Own hosts and
refused addresses are sorted out here, on the very addresses that are handed to delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from relay.observe.events import Events
from relay.routing.finding import Finding, Survey, verdict
from relay.routing.hosts import HOST_SHARE, MAX_TARGETS, Resolution
from relay.routing.identity import Identity
from relay.routing.literal import as_address, parse_literal
from relay.routing.lookup import Lookup
from relay.routing.query import Answer, Kind
from relay.routing.space import AddressSpace
from relay.routing.via import Via

FAMILIES: dict[str, tuple[Kind, ...]] = {"both": ("AAAA", "A"), "4": ("A",), "6": ("AAAA",)}


@dataclass(frozen=True, slots=True)
class Rules:
    """wanted: the address families of delivery.ip; servers: `dns.servers` is set."""

    wanted: tuple[Kind, ...]
    servers: bool
    space: AddressSpace
    identity: Identity


class Inquiry:
    """One survey. deadline: in the time of the running loop."""

    def __init__(self, rules: Rules, lookup: Lookup, events: Events, deadline: float) -> None:
        self._rules = rules
        self._lookup = lookup
        self._events = events
        self._deadline = deadline

    async def via(self, hops: Sequence[Via]) -> Survey:
        """In listed order; no MX, no refused space: the operator named these hosts. Never a permanent
        verdict."""
        findings = await asyncio.gather(*(self._hop(hop, place) for place, hop in enumerate(hops)))
        return Survey(hops[0].host, tuple(findings))

    def literal(self, domain: str, port: int) -> Survey:
        """ "[192.0.2.1]", "[ipv6:2001:db8::1]" (RFC 5321 section 4.1.3)."""
        address = parse_literal(domain)
        if address is None:
            return Survey(domain, settled=verdict("5.1.2", f"{domain} is not an address literal"))
        where = Finding(address, port)
        if not self._family(address):
            return Survey(domain, (where.with_other_family(),))
        return _cut(Survey(domain, (self._sift(domain, where, [address]),)))

    async def mx(self, domain: str, port: int, complete: bool) -> Survey:
        """RFC 5321 section 5.1."""
        (answer,) = await self._ask(domain, ["MX"])
        if answer.result == "nodata":
            (answer,) = await self._ask(domain, ["MX"], sure=True)
        settled = _settled(domain, answer)
        if settled is not None:
            return Survey(domain, settled=settled)
        implicit = answer.result == "nodata"  # the domain is its own MX, with preference 0
        exchanges = [(0, domain)] if implicit else [pair for pair in answer.exchanges if pair[1]]
        survey = Survey(domain, implicit=implicit)
        ours = min((place for place, name in exchanges if self._rules.identity.owns_name(name)), default=None)
        for preference, group in groupby(exchanges, lambda pair: pair[0]):
            wheres = [Finding(name, port, preference=preference) for _, name in group]
            if survey.looped or (ours is not None and preference >= ours):
                survey = survey.behind([self._by_name(where) for where in wheres])
            elif complete or survey.room_taken(HOST_SHARE) < MAX_TARGETS:
                found = await asyncio.gather(*(self._exchange(domain, where) for where in wheres))
                survey = _cut(survey.plus(found))
        return survey

    async def _hop(self, hop: Via, place: int) -> Finding:
        """One configured next hop: by DNS where servers are configured, else, or without success, the
        system's way."""
        where = Finding(hop.host, hop.port, hop.implicit_tls, place)
        if as_address(hop.host) is not None:
            return where.with_addresses([hop.host])
        answers = await self._ask(hop.host, self._rules.wanted if self._rules.servers else ())
        if not any(answer.addresses for answer in answers):
            answers += await self._ask(hop.host, ["HOST"])
        found = [address for answer in answers for address in answer.addresses if self._family(address)]
        return (
            where.with_addresses(found)
            if found
            else where.with_trouble(_reasons(answers) or "no usable address")
        )

    async def _exchange(self, domain: str, where: Finding) -> Finding:
        """One MX host: its addresses, sifted."""
        if as_address(where.name) is not None:
            return where.with_nothing("an IP address in place of a host name")
        answers = await self._addresses(where.name)
        found = [address for answer in answers for address in answer.addresses]
        if found:
            return self._sift(domain, where, found)
        if all(answer.definite for answer in answers):
            others = [kind for kind in FAMILIES["both"] if kind not in self._rules.wanted]
            answers += await self._ask(where.name, others)
        if any(answer.addresses for answer in answers):
            return where.with_other_family()
        if all(answer.definite for answer in answers):
            return where.with_nothing(_reasons(answers))
        return where.with_trouble(_reasons(answers))

    async def _addresses(self, name: str) -> list[Answer]:
        """Asked again where there is none: that may end mail."""
        answers = await self._ask(name, self._rules.wanted)
        if any(answer.addresses or not answer.definite for answer in answers):
            return answers
        return await self._ask(name, self._rules.wanted, sure=True)

    async def _ask(self, name: str, kinds: Iterable[Kind], *, sure: bool = False) -> list[Answer]:
        return list(await asyncio.gather(*(self._one(name, kind, sure) for kind in kinds)))

    async def _one(self, name: str, kind: Kind, sure: bool) -> Answer:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._lookup.ask(name, kind, sure=sure)
        except TimeoutError:
            return Answer("timeout", text="no answer in time")

    def _sift(self, domain: str, where: Finding, addresses: Sequence[str]) -> Finding:
        """Is it us? Else which of its addresses may be used."""
        if any(self._rules.identity.owns_address(address, where.port) for address in addresses):
            return where.as_ours(addresses)
        refused = tuple(
            (address, why) for address in addresses if (why := self._rules.space.refusal(address))
        )
        for address, _ in refused:
            self._events.refused_address(domain, address)
        bad = {address for address, _ in refused}
        return where.with_addresses([address for address in addresses if address not in bad], refused)

    def _by_name(self, where: Finding) -> Finding:
        return where.as_ours(()) if self._rules.identity.owns_name(where.name) else where

    def _family(self, address: str) -> bool:
        return ("AAAA" if ":" in address else "A") in self._rules.wanted


def _cut(survey: Survey) -> Survey:
    """RFC 5321 section 5.1: our own host and every host of its preference or a higher number are dropped."""
    ours = [finding.preference for finding in survey.findings if finding.state == "ours"]
    return survey.below(min(ours)) if ours else survey


def _settled(domain: str, answer: Answer) -> Resolution | None:
    """A verdict from the MX answer alone."""
    if not answer.definite:
        return verdict("4.4.3", f"DNS lookup of {domain} MX failed: {answer.text}")
    if answer.result == "nxdomain":
        return verdict("5.1.2", f"domain {domain or '(none)'} does not exist: {answer.text}")
    if answer.result == "ok" and all(not name for _, name in answer.exchanges):
        return verdict("5.1.10", f"domain {domain} accepts no mail (null MX)")  # RFC 7505 section 3
    return None


def _reasons(answers: Sequence[Answer]) -> str:
    return ", ".join(dict.fromkeys(answer.text for answer in answers if answer.text))
