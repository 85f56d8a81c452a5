"""The durable mail queue: a library of the standard library only. Specification: queue/README.md."""

from mailqueue.content import Content
from mailqueue.entry import (
    Entry,
    Filter,
    LaneTally,
    Loaded,
    Message,
    Recipient,
    Row,
    State,
    Tally,
    message_name,
    message_number,
)
from mailqueue.errors import (
    MovedAside,
    NoSpace,
    QueueClosed,
    QueueError,
    QueueFailed,
    SpoolFormat,
    SpoolLocked,
    SpoolUnusable,
)
from mailqueue.observer import Observer, SilentObserver
from mailqueue.offline import OfflineQueue
from mailqueue.options import Options, Space
from mailqueue.spool import Queue

__all__ = [
    "Content",
    "Entry",
    "Filter",
    "LaneTally",
    "Loaded",
    "Message",
    "MovedAside",
    "NoSpace",
    "Observer",
    "OfflineQueue",
    "Options",
    "Queue",
    "QueueClosed",
    "QueueError",
    "QueueFailed",
    "Recipient",
    "Row",
    "SilentObserver",
    "Space",
    "SpoolFormat",
    "SpoolLocked",
    "SpoolUnusable",
    "State",
    "Tally",
    "message_name",
    "message_number",
]
