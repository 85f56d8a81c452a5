"""What a person sees on a terminal fits it; what a program reads is not wrapped."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from relay.cli import table
from relay.cli.terminal import fitted

DEEP = " " * 14
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("line", "width", "expected"),
    [
        ("  lane now   one two three", 20, ["  lane now   one two", "             three"]),
        ("  next try in 12 min 5 s", 20, ["  next try in 12 min", "    5 s"]),
        ("warning: one two three", 16, ["warning: one two", "  three"]),
        ("  route       a-b: /a/long/path x", 20, ["  route       a-b:", f"{DEEP}/a/long/path", f"{DEEP}x"]),
        ("  at a time  one  two", 80, ["  at a time  one  two"]),
        ("  lane now   one two three", 0, ["  lane now   one two three"]),
        ("", 10, [""]),
    ],
)  # fmt: skip
def test_long_lines_go_on_below_their_text(line: str, width: int, expected: list[str]) -> None:
    """At blanks only, so that a path or a host can be copied."""
    assert list(fitted([line], width)) == expected


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_lanes_fit_the_terminal(width: int) -> None:
    """A long name is cut, trouble has lines of its own and is whole."""
    tally = {"messages": 1234567, "bytes": 1, "oldest": 0.0}
    states = dict.fromkeys(("incoming", "active", "deferred", "hold", "quarantine"), tally)
    state = {"state": "probing", "reason": "connect", "host": "x" * 30, "reply": " ".join(["word"] * 40)}
    item: dict[str, Any] = {"lane": "mx:" + "long." * 20, "states": states, "lane_state": state}
    head, *lines = [table.lane_head(width), *table.lane_lines(item, 1e6, width)]
    assert max(map(len, lines)) <= width and len(head) <= 80
    assert head.index("WAITING") + len("WAITING") == lines[0].index("3703701") + len("3703701")
    assert sum(line.count("word") for line in lines[1:]) == 40
    (line,) = table.lane_lines(item, 1e6, 0)
    assert item["lane"] in line and line.count("word") == 40


def test_the_age_of_what_is_out_is_not_known() -> None:
    """Nothing is 20,000 days old."""
    out = {"messages": 1, "bytes": 1, "oldest": 0.0}
    states: dict[str, Any] = {"incoming": out | {"messages": 0}, "active": out, "deferred": out, "hold": out}
    (line,) = table.lane_lines({"lane": "mx:a", "states": states, "lane_state": {}}, 1e6, 80)
    assert line.split()[-1] == "-"
    states["deferred"] = out | {"oldest": 1e6 - 60}
    (line,) = table.lane_lines({"lane": "mx:a", "states": states, "lane_state": {}}, 1e6, 80)
    assert line.split()[-1] == "1m"


def on_a_terminal(width: int, *arguments: str) -> list[str]:
    """The lines of a command on a terminal of so many columns."""
    pid, screen = pty.fork()
    if not pid:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}"}
        environment.pop("COLUMNS", None)
        os.execve(sys.executable, [sys.executable, "-m", "relay", *arguments], environment)
    seen = b""
    try:
        while True:
            try:
                seen += os.read(screen, 4096)
            except OSError:  # its end
                break
    finally:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
        os.close(screen)
    return seen.decode().splitlines()


def test_check_fits_the_terminal(tmp_path: Path) -> None:
    """A route of many domains goes on below its beginning."""
    domains = ", ".join(f"d{number}.example" for number in range(30))
    (tmp_path / "relay.yaml").write_text(
        f"spool: {tmp_path}/spool\nroutes: [{{name: many, to: [{domains}], via: mx.example:25}}]\n"
    )
    lines = on_a_terminal(80, "check", "-c", str(tmp_path / "relay.yaml"))
    place = next(
        place for place, line in enumerate(lines) if line.startswith("  route       many: d0.example, ")
    )
    assert len(lines[place]) <= 80 and lines[place + 1].startswith(" " * 14 + "d")
