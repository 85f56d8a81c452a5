"""The relay, sabotaged: what a write did not take is forgotten."""

from __future__ import annotations

import os

from faults.single_thread import run

from mailqueue import durable

if __name__ == "__main__":
    setattr(durable, "write_parts", os.writev)  # noqa: B010  a plain assignment is an error to mypy
    run()
