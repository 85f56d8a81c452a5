"""Damage at rest: one thing that is done to one file of a spool. Chosen by a seed, applied to a copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

DATABASE, LOG, SHARED = "queue.db", "queue.db-wal", "queue.db-shm"
SECTOR, PAGE = 512, 8192  # octets


@dataclass(frozen=True, slots=True)
class Damage:
    """kind: a key of KINDS. at: an offset or a length in octets; bits: what is flipped there, or a seed."""

    file: str
    kind: str
    at: int = 0
    bits: int = 0

    def apply(self, spool: Path) -> None:
        KINDS[self.kind](spool / self.file, self)


def _flip(path: Path, damage: Damage) -> None:
    with path.open("r+b") as file:
        file.seek(damage.at)
        octet = file.read(1)[0]
        file.seek(damage.at)
        file.write(bytes([octet ^ damage.bits]))


def _cut(path: Path, damage: Damage) -> None:
    os.truncate(path, damage.at)


def _write(data: Callable[[Damage, int], bytes], length: int) -> Callable[[Path, Damage], None]:
    def apply(path: Path, damage: Damage) -> None:
        left = min(length, path.stat().st_size - damage.at)
        with path.open("r+b") as file:
            file.seek(damage.at)
            file.write(data(damage, left))

    return apply


def _zeros(damage: Damage, length: int) -> bytes:
    return bytes(length)


def _noise(damage: Damage, length: int) -> bytes:
    return Random(damage.bits).randbytes(length)


def _misdirected(path: Path, damage: Damage) -> None:
    """A page where another belongs: each is sound by itself."""
    data = path.read_bytes()
    source = damage.bits % max(1, len(data) // PAGE) * PAGE
    _write(lambda _, length: data[source : source + length], PAGE)(path, damage)


def _append(path: Path, damage: Damage) -> None:
    with path.open("ab") as file:
        file.write(_noise(damage, damage.at))


def _empty(path: Path, damage: Damage) -> None:
    path.write_bytes(b"")


def _gone(path: Path, damage: Damage) -> None:
    path.unlink(missing_ok=True)


def _in_its_place(make: Callable[[Path], object]) -> Callable[[Path, Damage], None]:
    def apply(path: Path, damage: Damage) -> None:
        path.unlink(missing_ok=True)
        make(path)

    return apply


def _link_out(path: Path) -> None:
    """To what it was, outside the spool: the bytes are right, the place is not."""
    outside = path.parents[1] / f"outside-{path.name}"
    outside.write_bytes(b"somebody else's")
    path.symlink_to(outside)


def _link_to_same(path: Path, damage: Damage) -> None:
    outside = path.parents[1] / f"outside-{path.name}"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def _unreadable(path: Path, damage: Damage) -> None:
    path.chmod(0)


KINDS: dict[str, Callable[[Path, Damage], None]] = {
    "flip": _flip,
    "cut": _cut,
    "zeroed sector": _write(_zeros, SECTOR),
    "zeroed page": _write(_zeros, PAGE),
    "noise": _write(_noise, SECTOR),
    "misdirected page": _misdirected,
    "appended": _append,
    "empty": _empty,
    "gone": _gone,
    "FIFO": _in_its_place(os.mkfifo),
    "directory": _in_its_place(os.mkdir),
    "link out": _in_its_place(_link_out),
    "link to the same": _link_to_same,
    "unreadable": _unreadable,
}
CUT = ("cut", "empty", "gone", "FIFO", "directory", "link out", "link to the same", "unreadable")
ODD = ("empty", "gone", "FIFO", "directory", "link out", "link to the same", "unreadable")


def chosen(sizes: dict[str, int], random: Random, number: int) -> Iterator[Damage]:
    """So many, by chance: half of them flipped bits. sizes: of the files by name, of what may be damaged."""
    files = sorted(sizes)
    weights = [4 if name in (DATABASE, LOG) else 1 for name in files]
    for _ in range(number):
        file = random.choices(files, weights)[0]
        kind = random.choices(tuple(KINDS), (50, 12, 6, 8, 6, 6, 2, *(1.5 for _ in ODD)))[0]
        if not sizes[file]:
            continue
        at = random.randrange(sizes[file])
        bits = 1 << random.randrange(8) if kind == "flip" else random.randrange(2**32)
        if kind in ("zeroed page", "misdirected page"):
            at -= at % PAGE if file == DATABASE else max(0, at - 56) % (PAGE + 24) if at > 56 else at
        yield Damage(file, kind, at % 10_000 if kind == "appended" else at, bits)


def every(file: str, places: range, random: Random) -> Iterator[Damage]:
    """Each of these octets with a bit flipped, and the file cut to each of these lengths."""
    for at in places:
        yield Damage(file, "flip", at, 1 << random.randrange(8))
        yield Damage(file, "cut", at)


def odd(files: Iterable[str]) -> Iterator[Damage]:
    """Each file empty, gone, or something else than a file."""
    for file in sorted(files):
        yield from (Damage(file, kind) for kind in ODD)
