"""Secrets in files: read when they are needed, again when they have changed; nothing here shows one.

The first line is the secret, without its line end. A file has changed when its time, size or inode has, links
followed (Kubernetes swaps a link). Blocking, but for one stat a connection and a short read after a change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from relay import exposure

MOST = 65_536  # octets of a secret

Stamp = tuple[int, int, int]  # mtime in ns, size, inode


class NoSecret(Exception):
    """The text says which file and why."""


class Secrets:
    """One for all routes. exposed: told once of each file that everybody can read (exposure.py)."""

    def __init__(self, exposed: Callable[[str], None]) -> None:
        self._exposed = exposed
        self._told: set[Path] = set()
        self._kept: dict[Path, tuple[Stamp, str]] = {}

    def read(self, path: Path) -> str:
        """The secret. NoSecret when there is none."""
        kept = self._kept.get(path)
        if kept is not None and kept[0] == stamp(path):
            return kept[1]
        self._kept.pop(path, None)
        try:
            found, octets = _first(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise NoSecret(f"{path}: {reason.lower()}") from None
        secret = _text(path, octets)
        if path not in self._told and exposure.exposed(path):
            self._told.add(path)
            self._exposed(str(path))
        self._kept[path] = found, secret
        return secret


def stamp(path: Path) -> Stamp | None:
    """What tells a changed file from an unchanged one; None: it is not there, or not for us."""
    try:
        return _stamp(os.stat(path))  # noqa: PTH116 -- links are followed
    except (OSError, ValueError):
        return None


def stamps(paths: Iterable[Path]) -> tuple[Stamp | None, ...]:
    """The stamp of each."""
    return tuple(stamp(path) for path in paths)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _first(path: Path) -> tuple[Stamp, bytes]:
    """The stamp of what was read, and its first line. A pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NoSecret(f"{path}: not a file")
        return _stamp(found), file.read(MOST + 1).partition(b"\n")[0].removesuffix(b"\r")


def _text(path: Path, octets: bytes) -> str:
    if not octets:
        raise NoSecret(f"{path}: its first line is empty")
    if len(octets) > MOST:
        raise NoSecret(f"{path}: its first line is over {MOST} octets")
    try:
        secret = octets.decode()
    except UnicodeDecodeError:
        secret = "\0"
    if not secret.isprintable():
        raise NoSecret(f"{path}: its first line is not text in UTF-8")
    return secret
