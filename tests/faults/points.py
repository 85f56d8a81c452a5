"""Where a process can be killed: at the start of every system call that writes, one point each. Pure.

strace counts the calls of one name in each thread. A point is the nth call of a name in one thread that is
watched alone; or, in a start-up, where threads come and go, the nth on one file in any thread: that is met
only when no other thread makes its own nth before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from faults.strace import WRITING, Call


@dataclass(frozen=True, slots=True)
class Point:
    """thread: its place among the threads, 0 the main one; -1: whichever comes first. file: only calls on
    this one count. what: what the call was about when nobody was killed."""

    phase: str
    thread: int
    name: str
    n: int
    what: str = ""
    file: str = ""

    def __str__(self) -> str:
        thread = "" if self.thread < 0 else f" of thread {self.thread}"
        return f"{self.phase}: {self.name} {self.n}{thread} ({self.what})"


def is_write(call: Call) -> bool:
    """Something outside changes: not when openat makes no file or an eventfd wakes a thread of our own."""
    if call.name == "openat":
        return "O_CREAT" in call.text
    return call.name in WRITING and call.file != "anon_inode:[eventfd]"


def of_threads(phase: str, calls: Iterable[Call], threads: Sequence[int]) -> list[Point]:
    """Each thread watched alone."""
    counts: Counter[tuple[int, str]] = Counter()
    found = []
    for call in calls:
        counts[call.thread, call.name] += 1
        if is_write(call) and call.thread in threads:
            n = counts[call.thread, call.name]
            found.append(Point(phase, threads.index(call.thread), call.name, n, described(call)))
    return found


def of_files(phase: str, calls: Iterable[Call], main: int) -> tuple[list[Point], int]:
    """All threads watched at once, file by file; those of the main thread alone. And the number of calls that
    cannot be met this way."""
    counts: Counter[tuple[int, str, str]] = Counter()
    met: set[tuple[str, str, int]] = set()
    found, hidden = [], 0
    for call in calls:
        file = path_of(call)
        counts[call.thread, call.name, file] += 1
        n = counts[call.thread, call.name, file]
        if not is_write(call):
            pass
        elif call.thread == main or (file, call.name, n) not in met:
            thread = 0 if call.thread == main else -1
            found.append(Point(phase, thread, call.name, n, described(call), file))
        else:
            hidden += 1
        met.add((file, call.name, n))
    return found, hidden


def path_of(call: Call) -> str:
    """The file it is about: of a rename the old name."""
    named = call.strings and call.strings[0].startswith(b"/")
    return call.strings[0].decode(errors="replace") if named else call.file


def described(call: Call) -> str:
    """The file, shortened: its last two names; what is no file by its kind."""
    path = path_of(call)
    return "/".join(path.split("/")[-2:]) if path.startswith("/") else path.partition(":")[0]
