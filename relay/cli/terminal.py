"""Lines that fit the terminal. Where the output is none, nothing is wrapped or cut: a program reads it."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator

_HEAD = re.compile(
    r"( *)(\S.{0,14}?  +)?"
)  # what a line begins with: blanks, and a label with a column of its own


def columns() -> int:
    """Of standard output; 0: it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def fitted(lines: Iterable[str], width: int) -> Iterator[str]:
    """The same lines, long ones wrapped at blanks and indented below their text. width: columns; 0: as they
    are. A word that is longer stays whole: it may have to be copied."""
    for line in lines:
        if not width or len(line) <= width:
            yield line
            continue
        found = _HEAD.match(line)
        assert found is not None  # it may be empty
        indent = len(found[0]) if found[2] else len(found[1]) + 2
        yield from textwrap.wrap(
            line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
