"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.programs import lookup

ROOT = Path(__file__).resolve().parents[2]
IN_MEMORY = {"tmpfs", "ramfs"}


def facts(directory: Path) -> dict[str, Any]:
    """directory: where the spools lie."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "memory_mb": int(memory[1]) // 1024 if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system(directory),
        "load_average": os.getloadavg()[0],
        "load": "smtp-source" if lookup("smtp-source") else "Python",
        "postfix": said("postconf", "-d", "-h", "mail_version"),
        "commit": said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
    }


def processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.machine()


def file_system(directory: Path) -> str:
    """The type of the one that holds a directory, such as ext4; the longest mount point decides."""
    place, found = str(directory.resolve()), {"/": "unknown"}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if place == point or place.startswith(point.rstrip("/") + "/"):
            found[point] = kind
    return found[max(found, key=len)]


def said(*command: str) -> str:
    """What a program prints; "" where it is missing or does not work."""
    if lookup(command[0]) is None:
        return ""
    done = subprocess.run(
        [lookup(command[0]) or "", *command[1:]], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
