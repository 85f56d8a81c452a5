"""Jobs for delivery tests: one leased entry with its content, ready for Connection.start."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from mailqueue.entry import Entry, Loaded, Recipient
from relay.delivery.job import Job
from relay.envelope import Envelope

CONTENT = b"Subject: hello\r\n\r\n..a dot\r\nbye\r\n"


def job(
    *recipients: str | Recipient,
    content: bytes = CONTENT,
    path: Path | None = None,
    envelope: Envelope | None = None,
    size: int | None = None,
    todo: Sequence[int] | None = None,
) -> Job:
    """A job for the recipients (default: bob@example.org), all of them to do.

    path: content is written there and read from there, as large content is. size: what the entry claims.
    """
    people = [
        Recipient(person) if isinstance(person, str) else person
        for person in recipients or ("bob@example.org",)
    ]
    envelope = envelope or Envelope("alice@example.com")
    loaded = Loaded(b"", len(content), zlib.crc32(content), data=content)
    if path is not None:
        path.write_bytes(content)
        loaded.data, loaded.path = None, path
    claimed = len(content) if size is None else size
    entry = Entry(7, 35, "mx:example.org", True, 0, 1_700_000_000.0, 0.0, envelope.sender, claimed, people)
    return Job(entry, envelope, loaded, range(len(people)) if todo is None else todo)
