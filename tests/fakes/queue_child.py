"""A process with a queue of its own, to be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import asyncio, pathlib
from mailqueue import Message, Options, Queue, Recipient, message_name

async def main():
    queue = await Queue.open(pathlib.Path({spool!r}), {options})
    queue.admit = lambda lane: {admit}
    def leased(entry):
        print("settled", entry.name, flush=True)
        queue.settle(entry)
    queue.on_leased = leased
    async def client(number):
        for turn in range({count}):
            body = queue.content()
            body.write(bytes({size} if turn % 5 else 200_000))
            name = message_name(await queue.accept(Message("a@b", {{"lane": [Recipient("c@d")]}}, body)))
            print("accepted", name, flush=True)
    await client(0)
    print("full", flush=True)
    await asyncio.gather(*(client(n) for n in range(10)))

asyncio.run(main())
"""


def child(code: str) -> subprocess.Popen[str]:
    """Runs the code; what it prints can be read from stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "queue")}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
