"""What can go wrong, one class a cause. The text of each is one line that a person understands."""

from __future__ import annotations


class QueueError(Exception):
    """The root of all errors of this library."""


class SpoolLocked(QueueError):
    """Another process owns the spool."""


class SpoolFormat(QueueError):
    """The spool was written by a version this one does not know."""


class SpoolUnusable(QueueError):
    """The directory cannot be used: missing, not writable, somebody else's, or SQLite is too old."""


class MovedAside(SpoolUnusable):
    """A damaged database, or log, was put into a directory of its own. The queue goes on without it; what it
    still proves can be brought back (salvage.py)."""


class NoSpace(QueueError):
    """The disk is full, or less is free than the reserve asks for. Temporary; nothing was stored."""


class QueueFailed(QueueError):
    """A write or a sync failed. Nothing is acknowledged any more: the process has to exit and start anew."""


class QueueClosed(QueueError):
    """The queue is closing or closed. Nothing was stored."""
