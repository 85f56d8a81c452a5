"""What the groups of events share: the log, the metrics, and the spelling of addresses in lines."""

from __future__ import annotations

import time
from collections.abc import Callable

from relay.observe.labels import STAGE_TIMES, SUSPEND_REASONS
from relay.observe.log import Log
from relay.observe.metrics import Metrics


class Recorder:
    """log, metrics: by default a log that writes nowhere and numbers nobody reads; clock: epoch seconds.

    suspended: lanes suspended now, by reason; lag: the event loop's last measured lag in seconds."""

    def __init__(
        self, log: Log | None = None, metrics: Metrics | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.log = log or Log()
        self.metrics = metrics or Metrics()
        self.clock = clock
        self.suspended: dict[str, int] = dict.fromkeys(SUSPEND_REASONS, 0)
        self.lag = 0.0
        self._commit = self.metrics.commit.cell()
        self._lag = self.metrics.lag.cell()
        self._stages = {stage: self.metrics.stage.cell((stage,)) for stage in STAGE_TIMES}
        self._lanes: dict[str, str] = {}
        self._traced: dict[str, float] = {}


def address(text: str) -> str:
    """An address for `to=<...>`: angle brackets in a quoted local part must not end the field."""
    if ">" in text or "<" in text:
        return text.replace("<", "\\x3c").replace(">", "\\x3e")
    return text
