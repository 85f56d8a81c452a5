"""The relay, with one thread for content files instead of four: `python -m faults.single_thread run ...`.

So the story makes the same system calls in the same thread each time, and a point can be named by its number.
The log is synced in Python's thread and not in the C library's: there saboteurs and eatmydata can get at it.
"""

from __future__ import annotations

import sys

from mailqueue import aio, store
from relay.cli.main import main


def run() -> None:
    """What the command line says; does not return."""
    store._THREADS = 1
    aio.SIGNALS = ()
    sys.exit(main())


if __name__ == "__main__":
    run()
