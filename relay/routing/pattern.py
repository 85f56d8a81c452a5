"""The patterns of a route's `to:` and `from:`, compiled into sets, and those of `rewrite:`. Pure.

to:   "example.org", "*.example.org" (every name below it, at any depth, not itself), "user@example.org", "*"
from: the same, a domain also written "@example.org", and "<>" for the null sender
rewrite: "user@example.org", "@example.org", and both with "*" anywhere: any run of characters, dots too
Domains and local parts are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.routing.domain import fold, to_ascii, to_ascii_pattern


@dataclass(frozen=True, slots=True)
class Matcher:
    """What one key of one route accepts. `addresses` hold folded full addresses; `null` the null sender."""

    domains: frozenset[str] = frozenset()
    above: frozenset[str] = frozenset()  # "*.DOMAIN"
    addresses: frozenset[str] = frozenset()
    null: bool = False
    everything: bool = False

    def matches(self, address: str, domain: str) -> bool:
        """address: folded by `fold_address`, "" for the null sender; domain: its folded domain."""
        if self.everything:
            return True
        if not address:
            return self.null
        return (
            domain in self.domains or address in self.addresses or (bool(self.above) and self._below(domain))
        )

    def _below(self, domain: str) -> bool:
        _, dot, parent = domain.partition(".")
        while dot:
            if parent in self.above:
                return True
            _, dot, parent = parent.partition(".")
        return False


ANY = Matcher(everything=True)


def compile_patterns(patterns: Iterable[str] | None, *, sender: bool = False) -> Matcher:
    """A list of patterns -> Matcher; None (the key is absent) matches all. ValueError names the wrong
    pattern."""
    if patterns is None:
        return ANY
    found: dict[str, set[str]] = {
        "domain": set(),
        "above": set(),
        "address": set(),
        "null": set(),
        "all": set(),
    }
    for pattern in patterns:
        kind, value = parse_pattern(pattern, sender=sender)
        found[kind].add(value)
    return Matcher(
        frozenset(found["domain"]),
        frozenset(found["above"]),
        frozenset(found["address"]),
        bool(found["null"]),
        bool(found["all"]),
    )


def parse_pattern(pattern: str, *, sender: bool = False) -> tuple[str, str]:
    """One pattern -> (kind, folded value), kind one of domain, above, address, null, all. ValueError with
    advice."""
    text = pattern.strip()
    if text == "*":
        return "all", ""
    if text == "<>":
        if not sender:
            raise ValueError('"<>" is the null sender: it stands under from, no recipient is null')
        return "null", ""
    local, _, domain = text.rpartition("@")
    if local:
        if "*" in local:
            raise ValueError(
                f"{pattern!r}: write user@domain, a domain, or *.domain; a local part has no wildcard"
            )
        return "address", f"{local.lower()}@{_literal_or_name(domain)}"
    if domain.startswith("*."):
        return "above", to_ascii(domain[2:])
    if "*" in domain:
        raise ValueError(f"{pattern!r}: the only wildcard is a leading *. as in *.example.org")
    return "domain", _literal_or_name(domain)


def parse_rewrite(pattern: str) -> tuple[str, str]:
    """What a rule of `rewrite:` is for -> (kind, folded value), kind one of address, domain, glob. A glob is
    "local@domain". ValueError: no "@", or what stands behind it is no domain."""
    local, at, domain = pattern.rpartition("@")
    if not at:
        raise ValueError(f"{pattern!r} has no @")
    if "*" in pattern:
        return "glob", f"{local.lower() or '*'}@{to_ascii_pattern(domain)}"
    name = _literal_or_name(domain)
    return ("address", f"{local.lower()}@{name}") if local else ("domain", name)


def _literal_or_name(domain: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        return domain.lower()
    return to_ascii(domain)


def fold_address(address: str) -> tuple[str, str]:
    """An envelope address -> (folded address, folded domain); the domain is "" without an "@"."""
    local, at, domain = address.rpartition("@")
    if not at:
        return address.lower(), ""
    folded = fold(domain)
    return f"{local.lower()}@{folded}", folded
