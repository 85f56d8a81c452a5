"""The rules of `rewrite:`: other addresses in place of what machines make up. Compiled once. Pure.

The rules are asked in order and the first that fits wins, also where a later one is more exact. Local parts
and domains are compared without regard to case, domains as A-labels (relay/routing/pattern.py). A rule is
applied once: what it makes is not looked at again. The null sender is nobody's: it stays (RFC 5321 4.5.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.routing.pattern import fold_address, parse_rewrite

if TYPE_CHECKING:
    from relay.config.model import Rewrite

MEMO_LIMIT = 4096  # addresses whose answer is remembered; at the limit all are forgotten


@dataclass(frozen=True, slots=True)
class _Rule:
    """place: in the configuration; to: an address, or "@domain"; header: also in the From header."""

    place: int
    to: str
    header: bool

    def apply(self, address: str) -> str:
        return address.rpartition("@")[0] + self.to if self.to[0] == "@" else self.to


class Rewriter:
    """The answer for an address that was seen before is one look-up."""

    def __init__(self, rules: Iterable[Rewrite]) -> None:
        """ValueError: a rule whose `from` is no pattern."""
        self._exact: dict[str, dict[str, _Rule]] = {"address": {}, "domain": {}}
        self._globs: list[tuple[re.Pattern[str], _Rule]] = []
        self.for_header = False  # some rule is for the From header as well
        for place, each in enumerate(rules):
            rule = _Rule(place, each.to, each.header)
            self.for_header |= each.header
            kind, value = parse_rewrite(each.from_)
            if kind == "glob":
                self._globs.append((_compile(value), rule))
            else:
                self._exact[kind].setdefault(value, rule)
        self._memo: dict[str, tuple[str, bool]] = {}

    def sender(self, address: str) -> str:
        """An envelope sender -> the one that takes its place, or itself. Never raises. Hot."""
        return (self._memo.get(address) or self._remember(address))[0] if address else ""

    def author(self, address: str) -> str:
        """The same for an address of the From header: only a rule with `header` changes it. Never raises."""
        new, in_header = self._memo.get(address) or self._remember(address)
        return new if in_header else address

    def _remember(self, address: str) -> tuple[str, bool]:
        rule = self._find(address)
        found = (rule.apply(address), rule.header) if rule else (address, False)
        if len(self._memo) >= MEMO_LIMIT:
            self._memo.clear()
        self._memo[address] = found
        return found

    def _find(self, address: str) -> _Rule | None:
        folded, domain = fold_address(address)
        exact = self._exact["address"].get(folded), self._exact["domain"].get(domain)
        first = min((rule for rule in exact if rule), key=lambda rule: rule.place, default=None)
        for pattern, rule in self._globs:
            if first is not None and first.place < rule.place:
                break
            if pattern.fullmatch(folded):
                return rule
        return first


def _compile(glob: str) -> re.Pattern[str]:
    """ "root@*.local" -> a pattern for folded addresses. A domain holds no "@", a quoted local part may."""
    local, _, domain = glob.rpartition("@")
    parts = [
        any_run.join(map(re.escape, text.split("*"))) for any_run, text in ((".*", local), ("[^@]*", domain))
    ]
    return re.compile("@".join(parts), re.DOTALL)
