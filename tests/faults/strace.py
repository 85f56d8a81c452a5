"""What strace wrote, as values: calls with the bytes they carried and their place among all others.

Pure, apart from the command line. `begin` and `end` are line numbers of the log: a call that ended before
another began has the smaller number. Text is read from `-xx`, where every octet is hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fakes.tools import require_tool

WRITING = (
    "write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "fsync", "fdatasync",
    "sync_file_range", "rename", "renameat", "renameat2", "unlink", "unlinkat", "openat", "creat", "truncate",
    "ftruncate", "mkdir", "mkdirat", "link", "linkat", "symlink", "symlinkat", "fallocate", "copy_file_range",
    "sendfile",
)  # fmt: skip
READING = ("read", "readv", "recvfrom", "recvmsg")
WHOLE = 2**20  # octets of a string that strace writes down

_LINE = re.compile(r"(?:(\d+) +)?(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))", re.S)
_RESULT = re.compile(r"^(.*)\) += (-?\d+|\?|0x[0-9a-f]+)(.*)$", re.S)
_FILE = re.compile(r"^(-?\d+)<((?:TCP|TCPv6|UNIX|UNIX-STREAM)[^\]]*\]|[^>]*)>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_UNFINISHED = " <unfinished ...>"


@dataclass(slots=True)
class Call:
    """One system call. file: what its first descriptor is open on ("" none); strings: every quoted argument;
    result: None when it never returned."""

    thread: int
    name: str
    begin: int
    end: int = 0
    text: str = ""
    file: str = ""
    strings: list[bytes] = field(default_factory=list)
    result: int | None = None

    @property
    def data(self) -> bytes:
        """What it carried; of a write that took less, that much."""
        whole = b"".join(self.strings)
        return whole[: self.result] if self.result is not None and self.result >= 0 else whole

    @property
    def offset(self) -> int:
        """Of a pwrite64."""
        return int(self.text.rpartition(", ")[2])

    @property
    def worked(self) -> bool:
        return self.result is not None and self.result >= 0


def parse(lines: Iterable[str]) -> list[Call]:
    """The calls in the order in which they began."""
    calls: list[Call] = []
    open_calls: dict[int, Call] = {}
    for number, line in enumerate(lines, 1):
        matched = _LINE.match(line.rstrip("\n"))
        if not matched:
            continue  # signals and exits
        thread = int(matched[1] or 0)  # one thread watched alone has no number
        if matched[2]:
            call = Call(thread, matched[2], number)
            calls.append(call)
            rest = matched[3]
        else:
            resumed = open_calls.pop(thread, None)
            if resumed is None:  # it began before we looked
                continue
            call, rest = resumed, matched[5]
        if rest.endswith(_UNFINISHED):
            call.text += rest.removesuffix(_UNFINISHED)
            open_calls[thread] = call
        else:
            call.end = number
            _finish(call, call.text + rest)
    for call in open_calls.values():
        call.end = 2**62
        _finish(call, call.text)
    return calls


def _finish(call: Call, text: str) -> None:
    result = _RESULT.match(text)
    call.text = result[1] if result else text
    if result and result[2] != "?":
        call.result = int(result[2], 0)
    file = _FILE.match(call.text)
    if file:
        call.file = _plain(file[2])
    call.strings = [_octets(string) for string in _STRING.findall(call.text)]


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _plain(text: str) -> str:
    return _octets(text).decode() if text.startswith("\\x") else text


def strace(log: Path, calls: Sequence[str], *more: str) -> list[str]:
    """The command that writes such a log: add what to run, or -p."""
    program = require_tool("strace", "strace")
    traced = f"trace={','.join(calls)}"
    return [
        program,
        "-qq",
        "-xx",
        "-yy",
        "-s",
        str(WHOLE),
        "-o",
        str(log),
        "-e",
        traced,
        "-e",
        "signal=none",
        *more,
    ]
