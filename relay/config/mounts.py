"""Which file system a path lies on, by /proc/self/mountinfo (proc(5)). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_ESCAPE = re.compile(r"\\([0-7]{3})")  # a space is \040


@dataclass(frozen=True, slots=True)
class Mount:
    """point: where it is mounted; kind: the file system's type; root: which directory of it is seen there."""

    point: str
    kind: str
    root: str = "/"


def parse(text: str) -> Iterator[Mount]:
    """Every line that has the form: ID PARENT DEVICE ROOT POINT OPTIONS [FIELDS] - TYPE SOURCE OPTIONS."""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.partition(" ")[0]
        if len(fields) >= 6 and kind:
            yield Mount(_plain(fields[4]), kind, _plain(fields[3]))


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def holder(mounts: Iterable[Mount], path: str) -> Mount | None:
    """The one that holds `path` (full, without symbolic links): the deepest, of several there the last."""
    above = PurePosixPath(path)
    found = None
    for mount in mounts:
        if above.is_relative_to(mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found
