"""The relay, sabotaged: a small letter counts as delivered when its content is sent, before the reply."""

from __future__ import annotations

import asyncio
from typing import Any

from faults.single_thread import run

from mailqueue import Entry, Queue
from relay.delivery.connection import Connection
from relay.delivery.transaction import Transaction

honest_init, honest_settle, honest_send = Queue.__init__, Queue.settle, Connection._send_content
queues: list[Queue] = []
recorded: set[int] = set()
durable: list[asyncio.Future[None]] = []


def init(self: Queue, *args: Any) -> None:
    honest_init(self, *args)
    queues.append(self)


def settle(self: Queue, entry: Entry, *args: Any, **more: Any) -> None:
    if entry.id not in recorded:
        honest_settle(self, entry, *args, **more)


def send_content(self: Connection, transaction: Transaction) -> None:
    job = self._job
    if job is not None and job.loaded.data is not None and len(job.entry.recipients) == 1:
        honest_settle(queues[-1], job.entry)
        durable.append(asyncio.ensure_future(queues[-1].flush()))  # now, not with the next message
        recorded.add(job.entry.id)
    honest_send(self, transaction)


if __name__ == "__main__":
    for owner, name, function in (
        (Queue, "__init__", init),
        (Queue, "settle", settle),
        (Connection, "_send_content", send_content),
    ):
        setattr(owner, name, function)
    run()
