"""The relay, with one thread for content files instead of four: `python -m faults.single_thread run ...`.

So the story makes the same system calls in the same thread each time, and a point can be named by its number.
"""

from __future__ import annotations

import sys

from mailqueue import store
from relay.cli.main import main


def run() -> None:
    """What the command line says; does not return."""
    store._THREADS = 1
    sys.exit(main())


if __name__ == "__main__":
    run()
