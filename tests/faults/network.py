"""A network of the test's own, where packets can be dropped or refused: in_namespace and treated.

A network namespace belongs to a thread, and what that thread starts is in it as well: threads, relays,
clients. So a campaign is run in a thread of its own. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from fakes.tools import require_tool

CLONE_NEWNET = 0x40000000
Treatment = Literal["drop", "reset"]
TARGETS: dict[Treatment, list[str]] = {
    "drop": ["-j", "DROP"],
    "reset": ["-j", "REJECT", "--reject-with", "tcp-reset"],
}


def in_namespace(work: Callable[[], None]) -> None:
    """Runs it in a thread with a network that has nothing but loopback; raises what it raises."""
    ip = require_tool("ip", "iproute2")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
            subprocess.run([ip, "link", "set", "lo", "up"], check=True)
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@contextmanager
def treated(port: int, treatment: Treatment, share: float = 1.0) -> Iterator[None]:
    """So many of the packets to this port, of either direction, are dropped or answered with RST."""
    iptables = require_tool("iptables", "iptables")
    chance = ["-m", "statistic", "--mode", "random", "--probability", str(share)] if share < 1 else []
    rules = [["-p", "tcp", side, str(port), *chance, *TARGETS[treatment]] for side in ("--dport", "--sport")]
    for rule in rules:
        subprocess.run([iptables, "-A", "INPUT", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run([iptables, "-D", "INPUT", *rule], check=True)
