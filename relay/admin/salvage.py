"""An operator's `salvage`: what a database that was moved aside still proves comes back into the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mailqueue.errors import QueueError
from relay.admin.request import NO_INPUT, Refused, field

if TYPE_CHECKING:
    from mailqueue.damaged import Lost
    from mailqueue.salvage import Salvaged

COUNTS = ("found", "brought_back", "known", "possibly_delivered", "held", "unreadable")
IO = 74  # sysexits.h


class SalvagingQueue(Protocol):
    def salvage(self, directory: Path, dry_run: bool = False) -> AsyncIterator[Salvaged]: ...


async def salvage(
    queue: SalvagingQueue, request: Mapping[str, Any], totals: dict[str, int]
) -> AsyncIterator[list[dict[str, Any]]]:
    """Pages of what is lost, see lost_object; filled in: totals, by COUNTS and "lost". The request: directory
    (absolute), dry_run."""
    directory = Path(field(request, "directory", str, ""))
    if not directory.is_absolute():
        raise Refused("salvage: which directory?")
    totals.update(dict.fromkeys((*COUNTS, "lost"), 0))
    try:
        async for part in queue.salvage(directory, field(request, "dry_run", bool, False)):
            for name in COUNTS:
                totals[name] += getattr(part, name)
            totals["lost"] += len(part.lost)
            yield [lost_object(lost) for lost in part.lost]
    except QueueError as error:
        raise Refused(f"{error}; run it again, nothing comes twice", IO) from None
    except OSError as error:
        text = f"{error.filename or directory}: {error.strerror}" if error.strerror else str(error)
        raise Refused(text, NO_INPUT if isinstance(error, FileNotFoundError) else IO) from None


def lost_object(lost: Lost) -> dict[str, Any]:
    """As JSON. What it says beside the id and the reason is not proven."""
    return {
        "queue_id": lost.name,
        "reason": lost.reason,
        "sender": lost.sender,
        "recipients": list(lost.recipients),
    }
