"""The relay, sabotaged: an entry is forgotten in one transaction, its bounce is stored in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from faults.single_thread import run

from mailqueue import Entry, Message, Queue

honest = Queue.settle
tasks: set[asyncio.Task[None]] = set()


def settle(self: Queue, entry: Entry, *args: Any, reports: Sequence[Message] = (), **more: Any) -> None:
    honest(self, entry, *args, **more)
    if reports:
        task = asyncio.get_running_loop().create_task(store(self, reports))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def store(queue: Queue, reports: Sequence[Message]) -> None:
    await queue.flush()
    for report in reports:
        await queue.accept(report)


if __name__ == "__main__":
    setattr(Queue, "settle", settle)  # noqa: B010  a plain assignment is an error to mypy
    run()
