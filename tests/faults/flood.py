"""More mail than can be delivered, from a process of its own: Flood.

    python -m faults.flood PORT DIRECTORY SEED CLIENTS NAME ADDRESS

Small letters over CLIENTS connections, each as fast as it is answered, until standard input ends. They are
written down in DIRECTORY/sent, as every load does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Self

from faults.fork_server import PATH
from faults.letter import Letter, letter
from faults.load import Load


def small(name: str, random: Random) -> Letter:
    return letter(name, random, size=random.randint(10, 4000))


class Flood:
    """with Flood(port, directory, seed, 50, "f"): ...  `sent` is its log; acked: letters answered 250;
    longest: seconds that a client tried to get in."""

    def __init__(
        self, port: int, directory: Path, seed: int, clients: int, name: str, address: str = "127.0.0.1"
    ) -> None:
        directory.mkdir()
        self.sent = directory / "sent"
        arguments = [str(port), str(directory), str(seed), str(clients), name, address]
        self._command = [sys.executable, "-m", "faults.flood", *arguments]
        self.acked, self.longest = 0, 0.0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            acked, longest = self._process.communicate(timeout=120)[0].split()
            self.acked, self.longest = int(acked), float(longest)
        finally:
            self._process.kill()


def main(port: str, directory: str, seed: str, clients: str, name: str, address: str) -> None:
    load = Load(
        int(port), Path(), Path(directory), int(seed),
        clients=int(clients), make=small, pause=0, operator=False, name=name, address=address,
    )  # fmt: skip
    load.start()
    sys.stdin.read()
    load.stop()
    print(load.acked, max(load.waits, default=0.0))


if __name__ == "__main__":
    main(*sys.argv[1:])
