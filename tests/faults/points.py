"""Where a process can be killed: at the start of every system call that writes, one point each. Pure.

strace counts the calls of one name in each thread. A point is one call of a thread that is watched alone,
known by what it is about (`labels`), because its number is not the same in every run; or, in a start-up,
where threads come and go, the nth on one file in any thread: that is met only when no other thread makes its
own nth before.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from faults.commits import FRAME_HEADER, LOG, LOG_HEADER
from faults.strace import WRITING, Call


@dataclass(frozen=True, slots=True)
class Point:
    """thread: its place among the threads, 0 the main one; -1: whichever comes first. n: its number when
    nobody was killed. file: only calls on this one count. what: its label, where a thread is watched alone;
    else what it was about."""

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
    series: dict[tuple[int, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.thread in threads:
            series[call.thread, call.name].append(call)
    return [
        Point(phase, threads.index(thread), name, n, label)
        for (thread, name), alike in series.items()
        for n, (call, label) in enumerate(zip(alike, labels(alike), strict=True), 1)
        if is_write(call)
    ]


def labels(calls: Iterable[Call]) -> list[str]:
    """For calls of one name in one thread: what each is about, and the how manieth of that. A write to the
    log: the commit and the frame. A commit of one page is not counted with the others: what it changes may
    also go with the next."""
    counts: Counter[str] = Counter()
    frames = Frames()
    found = []
    for call in calls:
        what = described(call)
        if call.name == "pwrite64" and what == LOG and call.offset >= LOG_HEADER:
            found.append(frames.label(call.data))
        else:
            counts[what] += 1
            found.append(f"{what} {counts[what]}")
    return found


class Frames:
    """Names the writes to the log one by one: a header of a frame, its page, ..."""

    def __init__(self) -> None:
        self._commits = self._lone = self._frame = 0
        self._name = ""

    def label(self, data: bytes) -> str:
        if len(data) != FRAME_HEADER:
            return f"{self._name}, page"
        self._frame += 1
        ends = data[4:8] != bytes(4)
        if self._frame == 1:
            self._lone, self._commits = self._lone + ends, self._commits + (not ends)
        lone = ends and self._frame == 1
        self._name = (
            f"commit of one page {self._lone}" if lone else f"commit {self._commits}, frame {self._frame}"
        )
        self._frame = 0 if ends else self._frame
        return self._name


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
    """The same in every run: the name of the file, "content/*" for one with a letter's content; what is no
    file by its kind."""
    path = path_of(call)
    if not path.startswith("/"):
        return path.partition(":")[0]
    directory, _, name = path.rpartition("/")
    return "content/*" if directory.endswith("/content") else name
