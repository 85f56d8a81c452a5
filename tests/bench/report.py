"""From figures to a record, a table and a verdict. Pure.

A pair is one run of the relay and one of Postfix, one right after the other. What is compared is compared
inside a pair; over the pairs stand median, least and most.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSION = 1  # of the record
RELAY, POSTFIX = "relay", "postfix"
DISTURBED = 0.2  # cores that somebody else used
Raw = Mapping[str, float]
Pair = Mapping[str, Raw]  # name of the server -> its figures


@dataclass(frozen=True)
class Figure:
    """name: in the figures of a run; title: in the table; more: is better.

    ratio: what the relay's should be of Postfix's, at least or, where less is better, at most; value: what
    the relay's own should be.
    """

    name: str
    title: str
    more: bool
    digits: int = 0
    ratio: float | None = None
    value: float | None = None


@dataclass(frozen=True)
class Spread:
    """Over the pairs."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Measured:
    """A scenario with its pairs, those that were not broken off."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    pairs: tuple[Pair, ...]


def ratios(pairs: Iterable[Pair], name: str) -> list[float]:
    """The relay's figure as a multiple of Postfix's, of each pair that has both."""
    both = [(pair[RELAY][name], pair[POSTFIX][name]) for pair in pairs if has(pair, name)]
    return [ours / theirs for ours, theirs in both if theirs]


def has(pair: Pair, name: str) -> bool:
    return all(name in pair.get(server, {}) for server in (RELAY, POSTFIX))


def values(pairs: Iterable[Pair], server: str, name: str) -> list[float]:
    return [pair[server][name] for pair in pairs if name in pair.get(server, {})]


# --- the table


def table(measured: Iterable[Measured]) -> Iterator[str]:
    """Lines of Markdown: medians, and the least and the most of the pairs in brackets."""
    yield "| scenario | figure | relay | Postfix | relay to Postfix | wanted |"
    yield "|---|---|---|---|---|---|"
    for scenario in measured:
        for number, figure in enumerate(scenario.figures):
            ours, theirs = (values(scenario.pairs, server, figure.name) for server in (RELAY, POSTFIX))
            both = ratios(scenario.pairs, figure.name)
            cells = [
                "" if number else scenario.name, figure.title, absolute(ours, figure.digits),
                absolute(theirs, figure.digits), compared(both), wanted(figure),
            ]  # fmt: skip
            yield f"| {' | '.join(cells)} |"


def brief(measured: Iterable[Measured]) -> Iterator[str]:
    """Two tables of medians alone: ratios where a rate and its cost have one, figures of all the rest."""
    loads, others = list[str](), list[str]()
    for scenario in measured:
        rate, cpu = (middle(ratios(scenario.pairs, name)) for name in ("rate", "cpu"))
        if rate and cpu:
            loads.append(f"| {scenario.title} | {compared(rate)} | {compared(cpu)} |")
            continue
        for figure in scenario.figures:
            both = (middle(values(scenario.pairs, server, figure.name)) for server in (RELAY, POSTFIX))
            cells = (absolute(found, figure.digits) for found in both)
            others.append(f"| {scenario.title}: {figure.title} | {' | '.join(cells)} |")
    if loads:
        yield from ("| load | messages a second, end to end | CPU a message |", "|---|---|---|", *loads)
    if others:
        yield from ("", "| | relay | Postfix |", "|---|---|---|", *others)


def middle(found: Sequence[float]) -> list[float]:
    return [statistics.median(found)] if found else []


def absolute(found: Sequence[float], digits: int) -> str:
    """`861 (800-900)`; one value stands alone."""
    if not found:
        return ""
    spread = Spread.of(found)
    middle = f"{spread.median:,.{digits}f}"
    if len(found) == 1:
        return middle
    return f"{middle} ({spread.least:,.{digits}f}-{spread.most:,.{digits}f})"


def compared(found: Sequence[float]) -> str:
    """`4.1 times (3.9-4.3)`; where the relay's are smaller `1/7.1 (1/7.5-1/6.9)`."""
    if not found:
        return ""
    spread = Spread.of(found)
    word = times(spread.median) + (" times" if spread.median >= 1 else "")
    return word if len(found) == 1 else f"{word} ({times(spread.least)}-{times(spread.most)})"


def times(ratio: float) -> str:
    if ratio >= 1:
        return f"{ratio:.2f}"
    return f"1/{1 / ratio:.2f}" if ratio > 0 else "0"


def wanted(figure: Figure) -> str:
    sign = ">=" if figure.more else "<="
    if figure.ratio is not None:
        return f"{sign} {fraction(figure.ratio)}"
    return f"{sign} {figure.value:g}" if figure.value is not None else ""


def fraction(ratio: float) -> str:
    return f"{ratio:g} times" if ratio >= 1 else f"1/{1 / ratio:g}"


# --- the verdict


def missed(measured: Iterable[Measured]) -> Iterator[str]:
    """A sentence for each median that is not what was wanted; what was not measured is not judged."""
    for scenario in measured:
        for figure in scenario.figures:
            for limit, found in (
                (figure.ratio, ratios(scenario.pairs, figure.name)),
                (figure.value, values(scenario.pairs, RELAY, figure.name)),
            ):
                if limit is None or not found:
                    continue
                median = statistics.median(found)
                if median < limit if figure.more else median > limit:
                    yield f"{scenario.name}: {figure.title}: {median:.3g}, wanted {wanted(figure)}"


def doubts(measured: Iterable[Measured]) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    for scenario in measured:
        runs = [(server, raw) for pair in scenario.pairs for server, raw in pair.items()]
        disturbed = sum(raw.get("others", 0) > DISTURBED for _, raw in runs)
        if disturbed:
            yield f"{scenario.name}: in {disturbed} of {len(runs)} runs others used over {DISTURBED:g} cores"
        for server, raw in runs:
            for word in ("lost", "twice"):
                if raw.get(word):
                    yield f"{scenario.name}: {server}: {raw[word]:g} recipients {word}"


# --- the record


def record(
    measured: Iterable[Measured], machine: Mapping[str, Any], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """One document for a program: every figure of every run, medians, and the ratios inside the pairs."""
    return {
        "version": VERSION,
        "machine": dict(machine),
        "left_out": dict(left_out),
        "scenarios": {scenario.name: _recorded(scenario) for scenario in measured},
    }


def _recorded(scenario: Measured) -> dict[str, Any]:
    names = [figure.name for figure in scenario.figures]
    servers = [server for server in (RELAY, POSTFIX) if any(server in pair for pair in scenario.pairs)]
    return {
        "title": scenario.title,
        "pairs": [{server: dict(raw) for server, raw in pair.items()} for pair in scenario.pairs],
        "median": {
            server: {
                name: statistics.median(found)
                for name in names
                if (found := values(scenario.pairs, server, name))
            }
            for server in servers
        },
        "ratio": {name: vars(Spread.of(found)) for name in names if (found := ratios(scenario.pairs, name))},
    }
