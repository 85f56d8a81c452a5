"""The load: Postfix's smtp-source where there is one, else a client in Python, which costs more CPU."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bench.programs import lookup

PATIENCE = 240.0  # s for one load


@dataclass(frozen=True)
class Load:
    """size: octets of body; kept: many messages on a connection, else one each."""

    messages: int
    size: int = 1024
    sessions: int = 20
    recipients: int = 1
    kept: bool = True

    def of(self, messages: int) -> Self:
        return replace(self, messages=messages)


@dataclass(frozen=True)
class Sent:
    """seconds until the last 250; cpu: seconds that the client used."""

    seconds: float
    cpu: float


def send(port: int, load: Load) -> Sent:
    """All of it is accepted: ConnectionError when it is not."""
    begun = time.monotonic()
    client = subprocess.Popen(command(port, load), stdout=subprocess.DEVNULL, process_group=0)
    ended = os.pidfd_open(client.pid)
    try:
        if not select.select([ended], [], [], PATIENCE)[0]:
            raise TimeoutError(f"the load was not taken in {PATIENCE:g} s: {load}")
        seconds = time.monotonic() - begun
    finally:
        os.close(ended)
        os.kill(client.pid, signal.SIGKILL)  # Popen.kill would take its end before wait4 does
        _, status, usage = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
    if client.returncode:
        raise ConnectionError(f"the load was not taken: {client.args!r} ended with {client.returncode}")
    return Sent(seconds, usage.ru_utime + usage.ru_stime)


def command(port: int, load: Load) -> list[str]:
    """Recipients are numbered from 1: 1@example.com."""
    program = lookup("smtp-source")
    if program is None:
        client = Path(__file__).with_name("client.py")
        return [sys.executable, str(client), str(port), *map(str, vars(load).values())]
    return [
        program, "-N", "-M", "client.example", "-f", "app@client.example", "-t", "@example.com",
        "-s", str(load.sessions), "-m", str(load.messages), "-l", str(load.size), "-r", str(load.recipients),
        *(["-d"] if load.kept else []), f"127.0.0.1:{port}",
    ]  # fmt: skip
