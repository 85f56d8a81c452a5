"""users_file as a file: reading it, and seeing that it has changed. Blocking: for threads and commands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from relay import exposure
from relay.observe.text import printable
from relay.users.listing import Listing, parse_listing

MAX_OCTETS = 16 * 2**20

Mark = tuple[int, int, int]  # mtime in ns, size, inode: another one means another content


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file held when it had this mark. remarks: a line of text for all that is odd."""

    mark: Mark
    listing: Listing
    remarks: tuple[str, ...]


def mark_of(path: Path) -> Mark:
    """OSError when there is none."""
    return _mark(path.stat())


def _mark(status: os.stat_result) -> Mark:
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_users(path: Path) -> Reading:
    """OSError or ValueError when nothing of it can be used; the text says what to do."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        octets = file.read(MAX_OCTETS + 1)
    if len(octets) > MAX_OCTETS:
        raise ValueError(f"larger than {MAX_OCTETS} octets; is it the right file?")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        number = octets.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {number} is not UTF-8; make it with relay user add") from None
    listing = parse_listing(text)
    remarks = [f"{path}:{number}: {printable(text)}" for number, text in listing.problems]
    if exposure.exposed(path):
        remarks.append(exposure.warning(path))
    return Reading(_mark(status), listing, tuple(remarks))


def trouble(path: Path, error: Exception) -> str:
    """Why a file cannot be used, in one line."""
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return f"{path}: cannot be read: {reason}" if isinstance(error, OSError) else f"{path}: {reason}"


def complaints(path: Path) -> list[str]:
    """What `relay check` says about the file; nothing when all is well."""
    try:
        reading = read_users(path)
    except FileNotFoundError as error:
        return [f"{trouble(path, error)}; nobody can log in; relay user add NAME makes it"]
    except (OSError, ValueError) as error:
        return [f"{trouble(path, error)}; nobody can log in"]
    if not reading.listing.users:
        return [*reading.remarks, f"{path}: holds no user; relay user add NAME makes one"]
    return list(reading.remarks)
