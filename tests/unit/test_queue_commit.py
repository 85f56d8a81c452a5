"""Which jobs share a transaction and its sync, and when it begins."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from fakes.spool import Recorder, leasing, message, opened

from mailqueue import commit


class Commits(Recorder):
    """Says when the next one happens."""

    def __init__(self) -> None:
        super().__init__()
        self.happened = asyncio.Event()

    def committed(self, seconds: float, entries: int) -> None:
        super().committed(seconds, entries)
        self.happened.set()


async def test_the_thread_that_syncs_is_there_from_the_start(tmp_path: Path) -> None:
    """Under a limit of threads it is the start that fails, not the first checkpoint hours later."""
    async with opened(tmp_path / "spool"):
        assert "mailqueue-sync" in [thread.name for thread in threading.enumerate()]


async def test_a_delivery_shares_the_sync_of_the_next_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome has nobody who waits for it, so it does not stand before the one who comes next."""
    monkeypatch.setattr(commit, "_MOMENT", 600.0)  # however slow this machine is
    seen = Commits()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        leased = leasing(queue)
        for _ in range(5):
            await queue.accept(message())
            queue.settle(leased.pop())
            await asyncio.sleep(0)  # a turn in which nothing is in flight
        await queue.flush()
        assert seen.commits == [1, 2, 2, 2, 2, 2]


async def test_a_delivery_is_recorded_although_nothing_follows(tmp_path: Path) -> None:
    """Within a moment, so that a power cut finds little that may arrive twice."""
    seen = Commits()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        leased = leasing(queue)
        await queue.accept(message())
        seen.happened.clear()
        begun = time.monotonic()
        queue.settle(leased.pop())
        await asyncio.wait_for(seen.happened.wait(), 60)
        assert seen.commits == [1, 1]
        assert time.monotonic() - begun >= 0.004


async def test_what_is_put_off_or_failed_is_recorded_at_once(tmp_path: Path) -> None:
    """A lane, or the sender of a report, waits for it."""
    seen = Commits()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        leased = leasing(queue)
        await queue.accept(message())
        await queue.accept(message())
        later, bounced = leased
        queue.settle(later, later.recipients, due=time.time() + 60)
        assert queue._commit._scheduled
        await queue.flush()
        queue.settle(bounced, reports=[message(sender="")])
        assert queue._commit._scheduled
