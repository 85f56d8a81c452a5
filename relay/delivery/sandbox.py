"""A capture directory in the shape of a connection, so that a lane treats it like any next hop.

Writing happens in a thread and cannot be cut: a job under way counts as past the dot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from relay.delivery.capture import capture
from relay.delivery.job import Job, Verdict
from relay.outcome import Delivered

if TYPE_CHECKING:
    from relay.delivery.tools import Tools


class Sandbox:
    """One job at a time into `directory`."""

    def __init__(self, directory: Path, tools: Tools) -> None:
        self.host = ""
        self.setup = 0.0
        self.messages = 0
        self.on_lost: Callable[[Any], None] | None = None
        self.on_ended: Callable[[Any], None] | None = None
        self.closed = False
        self.past_dot = False
        self._directory = directory
        self._tools = tools

    @property
    def idle(self) -> bool:
        return not (self.closed or self.past_dot)

    @property
    def ended(self) -> bool:
        return self.closed

    def start(self, job: Job, done: Callable[[Any, Job, Verdict], None]) -> None:
        self.past_dot = True
        loaded = job.loaded
        if loaded.data is not None and job.entry.content is not None:
            loaded.check = crc32(loaded.data)  # straight from memory: nothing was read that could differ
        self._tools.spawn(self._write(job, done), self._tools.tasks)

    async def _write(self, job: Job, done: Callable[[Any, Job, Verdict], None]) -> None:
        try:
            verdict = await capture(self._directory, job)
        except Exception as error:
            self._tools.events.bug("capture", error)
            verdict = Verdict()  # without results: the lane defers what has none
        for index, outcome in job.results.items():
            if isinstance(outcome, Delivered):  # nobody after us can answer NOTIFY=SUCCESS
                job.results[index] = replace(outcome, dsn_passed_on=False)
        self.past_dot = False
        self.messages += 1
        done(self, job, verdict)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    async def wait_closed(self) -> None:
        """Nothing to wait for."""
