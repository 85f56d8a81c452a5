"""Every event of the relay: one function writes its log line and moves its metric.

No other module logs or counts. Arguments are plain values; nothing here blocks or raises. `route` is a
configured route's name, or "mx". Durations are seconds. The functions stand in the files of the classes
below, by subject.
"""

from __future__ import annotations

from relay.observe.inbound import FrontEvents, QueueEvents
from relay.observe.labels import REJECT_REASONS, SUSPEND_REASONS
from relay.observe.outbound import AttemptEvents, LaneEvents
from relay.observe.running import ProcessEvents
from relay.observe.secure import TlsEvents

__all__ = ["REJECT_REASONS", "SUSPEND_REASONS", "Events"]


class Events(FrontEvents, TlsEvents, QueueEvents, AttemptEvents, LaneEvents, ProcessEvents):
    """One object, made in app.py and handed to everything. `Events()` writes nothing: for tests and tools."""
