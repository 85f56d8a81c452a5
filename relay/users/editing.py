"""Changes of users_file: a line is set or taken out, the rest stays as it stands; the file is replaced whole.

Two commands at once wait for each other (a lock on the directory). What was there keeps its owner and mode.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.users.listing import check_name

Edit = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Owner:
    """Of a new file. group -1: that of the process."""

    mode: int = 0o600
    group: int = -1


def name_of(line: str) -> str | None:
    """Whose line it is, however wrong the rest of it; None for comments and what has no name."""
    name, colon, _ = line.strip().partition(":")
    if not colon or name.startswith("#"):
        return None
    try:
        return check_name(name)
    except ValueError:
        return None


def with_line(text: str, name: str, line: str) -> str:
    """The text with this line for `name`: in the place of its first one, else at the end. Pure."""
    kept: list[str] = []
    placed = False
    for old in _lines(text):
        if name_of(old) != name:
            kept.append(old)
        elif not placed:
            kept.append(line)
            placed = True
    if not placed:
        kept.append(line)
    return "".join(f"{each}\n" for each in kept)


def without(text: str, name: str) -> str:
    """The text without the lines of `name`. Pure."""
    return "".join(f"{old}\n" for old in _lines(text) if name_of(old) != name)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines


def change(path: Path, edit: Edit, owner: Owner) -> None:
    """Replaces the file by edit(its text, "" when there is none); owner: of a new one.

    What edit raises goes through, then nothing has changed. OSError; ValueError: not UTF-8."""
    path = path.resolve()  # the file behind a link, not the link
    with _locked(path.parent) as directory:
        try:
            old, status = path.read_bytes().decode("utf-8"), path.stat()
        except FileNotFoundError:
            old, status = "", None
        text = edit(old)
        if status is None or text != old:
            _replace(path, text, status, owner)
            os.fsync(directory)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str, old: os.stat_result | None, owner: Owner) -> None:
    """At no moment is there half a file, or one that others can read."""
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    hidden = Path(made)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            user, group = (-1, owner.group) if old is None else (old.st_uid, old.st_gid)
            if (user, group) != (-1, -1):
                os.fchown(file.fileno(), user, group)
            os.fchmod(file.fileno(), owner.mode if old is None else stat.S_IMODE(old.st_mode))
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
