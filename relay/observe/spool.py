"""What the queue and its disk look like at the moment of a scrape.

The queue keeps its counts as they change, so a scrape reads a handful of numbers and never the messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mailqueue.entry import State, Tally
from relay.observe.labels import QUEUE_STATES

STATE_NAMES = {
    State.INCOMING: "incoming",
    State.ACTIVE: "active",
    State.DEFERRED: "deferred",
    State.HELD: "hold",
    State.QUARANTINED: "quarantine",
}
WAITING = frozenset({State.INCOMING, State.DEFERRED})  # what becomes due


class SpaceView(Protocol):
    @property
    def free_bytes(self) -> int: ...
    @property
    def free_inodes(self) -> int: ...


class QueueView(Protocol):
    """The part of the queue that is looked at here."""

    def stats(self) -> Mapping[State, Tally]: ...
    def space(self) -> SpaceView: ...


class SpoolCollector(Collector):
    """Before `watch` everything is 0."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._queue: QueueView | None = None

    def watch(self, queue: QueueView) -> None:
        self._queue = queue

    def collect(self) -> Iterable[GaugeMetricFamily]:
        queue = self._queue
        yield from self._states(queue.stats() if queue else {})
        space = queue.space() if queue else None
        yield GaugeMetricFamily(
            "relay_spool_free_bytes",
            "Octets free on the spool's disk",
            value=space.free_bytes if space else 0,
        )
        yield GaugeMetricFamily(
            "relay_spool_free_inodes",
            "Inodes free on the spool's disk",
            value=space.free_inodes if space else 0,
        )

    def _states(self, stats: Mapping[State, Tally]) -> Iterable[GaugeMetricFamily]:
        now = self._clock()
        messages = _family("messages", "Messages in the queue, one per next hop")
        octets = _family("bytes", "Octets of content of the messages in the queue")
        oldest = _family("oldest_age_seconds", "Age of the oldest message in the queue, 0 without any")
        overdue = _family(
            "oldest_due_age_seconds", "How long the longest-waiting due message has been due and not tried"
        )
        for state, name in STATE_NAMES.items():
            tally = stats.get(state) or Tally()
            messages.add_metric((name,), tally.entries)
            octets.add_metric((name,), tally.bytes)
            oldest.add_metric((name,), max(0.0, now - tally.oldest) if tally.entries else 0.0)
            waits = tally.entries and tally.oldest_due and state in WAITING
            overdue.add_metric((name,), max(0.0, now - tally.oldest_due) if waits else 0.0)
        yield from (messages, octets, oldest, overdue)


def _family(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"relay_queue_{name}", text, labels=("state",))


assert set(STATE_NAMES.values()) == set(QUEUE_STATES)
