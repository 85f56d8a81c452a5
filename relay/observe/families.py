"""Metric families without locks: plain numbers in a dict, turned into samples only at a scrape.

Everything here runs on the loop's thread, so it needs none of the locks of prometheus_client's own counters:
`inc` costs about an eighth and `observe` a seventh of theirs. Every label set is made at the start and shows
0; one that was never announced is counted under "other" in each label, so a mistake cannot make the number of
series grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from relay.observe.labels import OTHER

Key = tuple[str, ...]


class Family(Collector):
    """What the three kinds share: name, help text, label names."""

    def __init__(self, name: str, text: str, labels: Key = ()) -> None:
        self.name, self.text, self.labels = name, text, labels
        self.other: Key = (OTHER,) * len(labels)


class Counter(Family):
    """Counts up. The name is given without "_total"."""

    def __init__(self, name: str, text: str, labels: Key = (), keys: Iterable[Key] = ((),)) -> None:
        super().__init__(name, text, labels)
        self.values: dict[Key, float] = dict.fromkeys(keys, 0)

    def add(self, *keys: Key) -> None:
        """Announces label sets; known ones keep their value."""
        for key in keys:
            self.values.setdefault(key, 0)

    def inc(self, key: Key = (), by: float = 1) -> None:
        try:
            self.values[key] += by
        except KeyError:
            self.values[self.other] = self.values.get(self.other, 0) + by

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for key, value in self.values.items():
            family.add_metric(key, value)
        yield family


class Gauge(Counter):
    """Goes up and down: the same numbers, shown as they are."""

    def set(self, key: Key, value: float) -> None:
        self.values[key if key in self.values else self.other] = value

    def collect(self) -> Iterable[GaugeMetricFamily]:  # type: ignore[override]  # the other kind of family
        family = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for key, value in self.values.items():
            family.add_metric(key, value)
        yield family


class Watched(Family):
    """Counts up elsewhere: `source` is asked at each scrape."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.source: Callable[[], float] = lambda: 0

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(self.name, self.text, value=self.source())


class Cell:
    """One histogram: counts per bucket (not cumulated) and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulated counts with their upper bounds as text, as the exposition wants them."""
        total, pairs = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            pairs.append((f"{bound:g}" if bound != float("inf") else "+Inf", float(total)))
        return pairs


class Histogram(Family):
    """bounds: upper bounds in ascending order, without infinity."""

    def __init__(
        self, name: str, text: str, bounds: tuple[float, ...], labels: Key = (), keys: Iterable[Key] = ((),)
    ) -> None:
        super().__init__(name, text, labels)
        self.bounds = bounds
        self.cells = {key: Cell(bounds) for key in keys}

    def add(self, *keys: Key) -> None:
        for key in keys:
            if key not in self.cells:
                self.cells[key] = Cell(self.bounds)

    def cell(self, key: Key = ()) -> Cell:
        """The cell of one label set, to be kept and observed without a look-up."""
        found = self.cells.get(key)
        return found if found is not None else self.cells.setdefault(self.other, Cell(self.bounds))

    def observe(self, value: float, key: Key = (), times: int = 1) -> None:
        self.cell(key).observe(value, times)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for key, cell in self.cells.items():
            family.add_metric(key, cell.buckets(), cell.sum)
        yield family
