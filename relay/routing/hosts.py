"""What resolving a lane gives: hosts to try, or a verdict. Values only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from random import Random
from typing import Literal, TypeVar

from relay.reply import Reply
from relay.routing.target import Target

_T = TypeVar("_T")

MAX_TARGETS = 5  # addresses tried in one attempt
HOST_SHARE = (
    2  # of them for one host, while other hosts have some too (RFC 5321 section 5.1: at least two addresses)
)


@dataclass(frozen=True, slots=True)
class Host:
    """One next hop. addresses: IP texts, at least one, none in refused space (a `via` host may be
    private)."""

    name: str
    addresses: tuple[str, ...]
    port: int
    implicit_tls: bool = False
    preference: int = 0


@dataclass(frozen=True, slots=True)
class Hosts:
    """In ascending order of preference; never empty."""

    hosts: tuple[Host, ...]

    def targets(self, random: Random, limit: int = MAX_TARGETS) -> list[Target]:
        """The addresses of one attempt, in the order to try: by preference, random among hosts of equal
        preference and among the addresses of a host, IPv6 and IPv4 in turns."""
        ordered = [
            host for _, group in groupby(self.hosts, _preference) for host in _shuffled(list(group), random)
        ]
        shares = _shares([len(host.addresses) for host in ordered], limit)
        return [
            Target(host.name, address, host.port, host.implicit_tls, host.preference)
            for host, share in zip(ordered, shares, strict=True)
            for address in list(_in_turns(host.addresses, random))[:share]
        ]


@dataclass(frozen=True, slots=True)
class DnsFailed:
    """Permanent: Failed at stage "dns" for every recipient of the lane's domain."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class DnsDeferred:
    """Temporary: the lane backs off for `reason`, one of SUSPEND_REASONS."""

    reply: Reply
    reason: Literal["dns", "address"]


Resolution = Hosts | DnsFailed | DnsDeferred


def _preference(host: Host) -> int:
    return host.preference


def _shuffled(items: list[_T], random: Random) -> list[_T]:
    random.shuffle(items)
    return items


def _in_turns(addresses: tuple[str, ...], random: Random) -> Iterator[str]:
    six = _shuffled([address for address in addresses if ":" in address], random)
    four = _shuffled([address for address in addresses if ":" not in address], random)
    return (address for pair in zip_longest(six, four) for address in pair if address is not None)


def _shares(sizes: list[int], limit: int) -> list[int]:
    """How many of `limit` each host gets: HOST_SHARE each in order, then what is left, in order."""
    shares = [0] * len(sizes)
    for most in (HOST_SHARE, limit):
        for place, size in enumerate(sizes):
            more = min(min(size, most) - shares[place], limit - sum(shares))
            shares[place] += max(more, 0)
    return shares
