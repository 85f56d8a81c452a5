"""What a process and its children used: CPU and memory, from /proc (proc(5)).

No cgroup is needed: the kernel adds the time of an ended child to its parent's account when the parent takes
note of the end, and Postfix's master is the parent of all its processes.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def children(parent: int) -> list[int]:
    """Of a process that is there; empty when it has just ended."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def tree(root: int) -> list[int]:
    """The process and all below it."""
    found = [root]
    for pid in found:  # grows
        found += children(pid)
    return found


def spent(root: int) -> float:
    """CPU seconds, user and system, of a process and all below it, those that have ended too."""
    return sum(_spent(pid) for pid in tree(root))


def _spent(pid: int) -> float:
    """0 when it has just ended: its parent has it then.

    stat counts ended threads and children, but each number is cut to a tick, which is much of what one of
    Postfix's many processes uses in a run. schedstat has nanoseconds, of living threads.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        exact = sum(_on_cpu(task) for task in Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    user, system, *dead = (int(field) / TICK for field in fields[11:15])
    return max(user + system, exact) + sum(dead)


def _on_cpu(task: Path) -> float:
    """Seconds of a thread, 0 when it has just ended or the kernel does not count them."""
    try:
        return int((task / "schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def peak(pid: int) -> int:
    """The most octets of memory that a process ever had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def machine_busy() -> float:
    """CPU seconds that the whole machine has worked."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / TICK
