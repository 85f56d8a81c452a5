"""The relay, with one thread for content files instead of four: `python -m faults.single_thread run ...`.

So the story makes the same system calls in the same thread each time. Threads are there from the start, so
that strace can be put on each. The log is synced in Python's thread and not in the C library's: there
saboteurs and eatmydata can get at it.
"""

from __future__ import annotations

import sys
from typing import Any

from mailqueue import aio, store
from mailqueue.worker import Threads
from relay.cli.main import main

honest = Threads.__init__


def init(self: Threads, *args: Any) -> None:
    honest(self, *args)
    self._start()


def run() -> None:
    """What the command line says; does not return."""
    store._THREADS = 1
    aio.SIGNALS = ()
    setattr(Threads, "__init__", init)  # noqa: B010  a plain assignment is an error to mypy
    sys.exit(main())


if __name__ == "__main__":
    run()
