"""Can everybody on this machine read a file with a secret? One rule and one text for all such files: the key
of TLS, passwords, tokens, users, and a configuration that has one of them in it.

Everybody: the file's mode lets others read it, and those of the directories above let them come to it. In a
container there is nobody else, and secrets are mounted there for all to read: nothing is said. Reads the
disk; never raises.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")  # Docker, Podman
CONTAINER_VARIABLES = ("container", "KUBERNETES_SERVICE_HOST")


def exposed(path: Path) -> bool:
    """Can others than its owner and its group read it, here?"""
    return open_to_all(path) and not in_container(os.environ, os.path.exists)


def warning(path: Path | str) -> str:
    """What is said of one that is."""
    return f"everybody on this machine can read {path}; take that right away (chmod o= FILE)"


def in_container(environ: Mapping[str, str], exists: Callable[[str], bool]) -> bool:
    """Docker, Podman, Kubernetes and what else names itself in the environment."""
    return any(map(environ.get, CONTAINER_VARIABLES)) or any(map(exists, CONTAINER_FILES))


def open_to_all(path: Path) -> bool:
    """May every user read it, and come to it?"""
    real = Path(os.path.realpath(path))
    try:
        return bool(real.stat().st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in real.parents
        )
    except OSError:
        return False
