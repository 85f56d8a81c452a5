"""Bare line ends in large content: in lines of one length, around them, wherever one is out of step."""

from __future__ import annotations

import random
import re

import pytest

from relay.front.newline import has_bare

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
DEFECTS = (b"", b"\r", b"\n", b"\n\r", b"\r\r", b"\n\n", b"\r\n\r", b"\n\r\n")


def attachment(line: int, lines: int) -> bytes:
    """A header, lines of one length, a shorter one and an end."""
    return b"Subject: x\r\nTo: y\r\n\r\n" + (b"A" * line + b"\r\n") * lines + b"AA==\r\n--end--\r\n"


@pytest.mark.parametrize("line", [1, 29, 30, 31, 76, 998])
def test_clean_lines_of_one_length(line: int) -> None:
    block = attachment(line, 20_000 // line)
    for start in (0, 5, 22, 24, 200):
        assert has_bare(block[start:]) == (block[start : start + 1] == b"\n")
    assert not has_bare(block[: -len(b"AA==\r\n--end--\r\n") - 1 - line])


@pytest.mark.parametrize("line", [30, 76])
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_line_end_out_of_step(line: int, defect: bytes) -> None:
    """Put at every place of some lines, and instead of a CRLF."""
    block = attachment(line, 8000 // line)
    ends = [found.start() for found in re.finditer(rb"\r\n", block)]
    for end in (ends[0], ends[3], ends[4], ends[len(ends) // 2], ends[-4], ends[-1]):
        for place in range(end - line, end + 3):
            if place >= 0:
                spoiled = block[:place] + defect + block[place:]
                assert has_bare(spoiled) == bool(_BARE.search(spoiled)), (place, defect)
        spoiled = block[:end] + defect + block[end + 2 :]
        assert has_bare(spoiled) == bool(_BARE.search(spoiled)), (end, defect)


def test_lines_of_any_length() -> None:
    some = random.Random(5)
    for _ in range(300):
        lengths = [some.choice((0, 20, 60, 76, 76, 76)) for _ in range(some.randrange(1, 150))]
        ends = [some.choice((b"\r\n",) * 40 + (b"\n", b"\r")) for _ in lengths]
        block = bytearray(b"".join(b"x" * length + end for length, end in zip(lengths, ends, strict=True)))
        for _ in range(some.choice((0, 0, 1, 3))):
            block[some.randrange(len(block))] = some.choice(b"\r\nx")
        assert has_bare(bytes(block)) == bool(_BARE.search(block)), bytes(block)
