"""The order checker: what had to be on disk before the relay said or did something. Pure.

It holds for the sequential story (story.py), where one letter is under way at a time:

A. "queued as" is written after a sync of the log that succeeded and began after the COMMIT with that message.
B. A content file is synced after its last write, then its directory, both before the row is written.
C. A recipient leaves the queue after the next hop's last word about it was read, or an operator asked.
D. Who failed leaves in the COMMIT that brings the bounce.
E. A content file is removed after a sync that began after the last COMMIT before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from faults.commits import LOG, Commit
from faults.letter import id_of, word_of
from faults.strace import READING, Call

_QUEUED = re.compile(rb"^250 \S+ queued as (\w+)", re.M)
_FINAL = re.compile(rb"^[25]\d\d ", re.M)
DOT = b"\r\n.\r\n"
FAILING = ("never", "refused")


class Order:
    """dropped: letters that an operator was told to remove."""

    def __init__(
        self, calls: Sequence[Call], commits: Sequence[Commit], dropped: frozenset[str] = frozenset()
    ) -> None:
        self.calls = calls
        self.commits = commits
        self.dropped = dropped
        self.syncs = [c for c in calls if c.name in ("fdatasync", "fsync") and c.result == 0]
        self.acknowledged = 0

    def violations(self) -> list[str]:
        return [*self.replies(), *self.files(), *self.ends(), *self.removals()]

    def synced(self, suffix: str, after: int, before: int) -> Call | None:
        """A successful sync of a file that began after one line and ended before another."""
        for sync in self.syncs:
            if sync.file.endswith(suffix) and sync.begin > after and sync.end < before:
                return sync
        return None

    def first_with(self, queue_id: str) -> Commit | None:
        for commit in self.commits:
            if any(name == queue_id for name, _ in commit.entries):
                return commit
        return None

    def replies(self) -> Iterator[str]:
        """Rule A."""
        for call in self.calls:
            if not call.file.startswith("TCP"):
                continue
            said = _QUEUED.findall(call.data) if call.name not in READING else []
            for name in map(bytes.decode, said):
                self.acknowledged += 1
                commit = self.first_with(name)
                if commit is None or commit.last.end > call.begin:
                    yield f"A: {name} was acknowledged at line {call.begin}, before its COMMIT"
                elif self.synced(LOG, commit.last.end, call.begin) is None:
                    where = f"between its COMMIT, line {commit.last.end}, and its reply, line {call.begin}"
                    yield f"A: {name}: no sync of the log {where}"

    def files(self) -> Iterator[str]:
        """Rule B."""
        for made in self.calls:
            if made.name != "openat" or not made.worked or "O_CREAT" not in made.text:
                continue
            directory, _, name = made.strings[0].decode().rpartition("/")
            commit = self.first_with(name)
            if not directory.endswith("/content") or commit is None:
                continue
            row, path = commit.first.begin, f"{directory}/{name}"
            written = [c.end for c in self.calls if c.name == "write" and c.file == path and c.begin < row]
            file = self.synced(path, max(written, default=made.end), row)
            if file is None:
                yield f"B: the content of {name} was not synced before its row, line {row}"
            elif self.synced(directory, file.end, row) is None:
                yield f"B: the directory was not synced between the content of {name} and its row, line {row}"

    def ends(self) -> Iterator[str]:
        """Rules C and D."""
        before: Mapping[tuple[str, str], tuple[str, ...]] = {}
        for commit in self.commits:
            for entry, recipients in before.items():
                for recipient in recipients:
                    if recipient not in commit.entries.get(entry, ()):
                        yield from self.end(entry[0], recipient, commit)
            before = commit.entries

    def end(self, name: str, recipient: str, commit: Commit) -> Iterator[str]:
        line = commit.first.begin
        if id_of(recipient) in self.dropped:
            return
        if self.last_word(recipient, line) is None:
            yield f"C: {name}: {recipient} left the queue at line {line}, before the next hop's last word"
        if word_of(recipient) in FAILING and recipient not in commit.failed:
            yield f"D: {name}: {recipient} left the queue at line {line}, without its bounce"

    def last_word(self, recipient: str, line: int) -> Call | None:
        """The read of a final reply to the latest transaction with this recipient, ended before the line."""
        asked = word = None
        tail = b""  # the last octets written to the next hop
        for call in self.calls:
            if call.begin >= line or not call.file.startswith("TCP"):
                continue
            if call.name not in READING and f"RCPT TO:<{recipient}>".encode() in call.data:
                asked, word, tail = call, None, b""
            if asked is None or call.file != asked.file:
                continue
            if call.name not in READING:
                tail = (tail + call.data)[-len(DOT) :]
            elif (
                (tail == DOT or word_of(recipient) == "never")
                and _FINAL.search(call.data)
                and call.end < line
            ):
                word = call
        return word

    def removals(self) -> Iterator[str]:
        """Rule E."""
        for call in self.calls:
            if call.name not in ("unlink", "unlinkat") or b"/content/" not in call.strings[0]:
                continue
            ended = [commit.last.end for commit in self.commits if commit.last.end < call.begin]
            if ended and self.synced(LOG, max(ended), call.begin) is None:
                path = call.strings[0].decode()
                yield f"E: {path} was removed at line {call.begin}, its row was not gone for good"
