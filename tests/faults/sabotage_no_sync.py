"""The relay, sabotaged: nothing is ever synced. `python -m faults.sabotage_no_sync run ...`"""

from __future__ import annotations

from faults.single_thread import run

from mailqueue import durable


def nothing(what: object) -> None:
    """Says it is done."""


if __name__ == "__main__":
    for name in ("sync_log", "sync_file", "sync_directory"):
        setattr(durable, name, nothing)
    run()
