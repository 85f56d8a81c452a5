"""What is wrong with a configuration, in one line each, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]  # ("listeners", 0, "tls")


@dataclass(frozen=True, slots=True)
class Problem:
    """file: as named on the command line, or the environment variable; line and column count from 1, 0: none.

    key: "listeners.0.tls", "" for the file as a whole. text: what is wrong; what to write instead.
    """

    file: str
    line: int
    column: int
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigErrors(Exception):
    """The configuration cannot be used. `problems` is sorted by place; str() has one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(
            dict.fromkeys(problems),
            key=lambda each: (each.line == 0 and each.key != "", each.line, each.column),
        )
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(path: Path) -> str:
    """("listeners", 0, "tls") -> "listeners.0.tls"."""
    return ".".join(str(part) for part in path)
