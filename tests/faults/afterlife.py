"""A spool as its next owner finds it after a crash: opened by mailqueue, emptied, every octet read.

This is what the relay does at its start and in its deliveries, without the half second that the rest of it
takes: 2,000 states of a disk are judged this way, and some of them by a relay too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from faults.checker import Findings, check
from faults.history import Arrival, Fault, History, Notice, Removal, Sent, Waiting, by_id, read
from faults.leases import in_flight
from faults.letter import id_of, read_arrival

from mailqueue import Entry, Filter, Options, Queue
from relay.observe.spool import STATE_NAMES

EAGER = Options(reserve=0, ballast=0, recovery_pause=0)
MOST = 1_000_000


@dataclass(slots=True)
class Heard:
    """What the queue tells about its start: mailqueue.Observer."""

    possibly_delivered: int = 0
    errors: list[str] = field(default_factory=list)

    def committed(self, seconds: float, entries: int) -> None:
        """Of no interest."""

    def spool_error(self, operation: str, error: BaseException) -> None:
        """A log with later blocks and not the earlier ones is what a power cut may leave, and is told."""
        if "queue.db-wal is damaged" not in str(error):
            self.errors.append(f"{operation}: {error}")

    def quarantined(self, name: str, reason: str) -> None:
        self.errors.append(f"{name}: {reason}")

    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        self.possibly_delivered += possibly_delivered


async def judge(spool: Path, notes: Path) -> Findings:
    """notes: a directory with `sent`, `arrivals`, `notices` and `removals` as they were at the crash."""
    leased, heard = in_flight(spool), Heard()
    came, left = await emptied(spool, heard)
    findings = check(
        History(
            sent=by_id(read(notes / "sent", Sent)),
            arrivals=[
                *read(notes / "arrivals", Arrival),
                *(item for item in came if isinstance(item, Arrival)),
            ],
            notices=[*read(notes / "notices", Notice), *(item for item in came if isinstance(item, Notice))],
            waiting=left,
            removals=list(read(notes / "removals", Removal)),
            faults=[Fault("power cut", time.time(), leased, heard.possibly_delivered)],
        )
    )
    assert not heard.errors, f"{heard.errors}\n{findings}"
    return findings


async def emptied(spool: Path, heard: Heard) -> tuple[list[Arrival | Notice], list[Waiting]]:
    """Everything that can be taken, taken and forgotten; and what cannot."""
    came: list[Arrival | Notice] = []
    queue = await Queue.open(spool, EAGER, heard)
    try:
        await queue.release(Filter())
        await queue.retry(Filter())
        for lane in queue.claim(1000, time.time() + 60):
            while entries := await queue.take(lane, 100):
                came += [item for entry in entries if (item := content_of(queue, entry)) is not None]
            queue.unclaim(lane)
        await queue.flush()
        rows = await queue.search(Filter(), limit=MOST)
    finally:
        await queue.close()
    left = [
        Waiting(
            id_of(row.recipients[0].address),
            row.message,
            tuple(recipient.address for recipient in row.recipients),
            STATE_NAMES[row.state],
        )
        for row in rows
    ]
    return came, left


def content_of(queue: Queue, entry: Entry) -> Arrival | Notice | None:
    """The entry as a next hop would get it, settled. None: damaged."""
    loaded = queue.load_now(entry)
    if loaded is None:
        return None
    stored = loaded.data if loaded.path is None else loaded.path.read_bytes()
    assert stored is not None
    recipients = [recipient.address for recipient in entry.recipients]
    plain = (b"\r\n" + stored).replace(b"\r\n.", b"\r\n")[2:]  # RFC 5321 4.5.2
    came = read_arrival(plain, entry.sender, recipients, time.time())
    queue.settle(entry)
    return came
