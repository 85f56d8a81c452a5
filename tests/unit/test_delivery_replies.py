"""The reader of replies: any cut of the octets gives the same replies, and nothing gets past its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.reply_reader import (
    MAX_LINE,
    MAX_LINES,
    MAX_REPLY,
    MAX_TEXT,
    NotAReply,
    ReplyReader,
    clean,
)


def read(*chunks: bytes) -> list[tuple[int, bytes]]:
    """All replies in these chunks."""
    reader = ReplyReader()
    replies = []
    for chunk in chunks:
        reader.feed(chunk)
        while (reply := reader.next()) is not None:
            replies.append(reply)
    return replies


@pytest.mark.parametrize(
    ("octets", "replies"),
    [
        (b"250 ok\r\n", [(250, b"ok")]),
        (b"250 ok\n", [(250, b"ok")]),
        (b"250\r\n", [(250, b"")]),
        (b"250 \r\n", [(250, b"")]),
        (b"250-one\r\n250-\r\n250 three\r\n", [(250, b"one\n\nthree")]),
        (b"250-one\r\n250\r\n", [(250, b"one\n")]),
        (b"250 a\r\n550 b\r\n354 c\r\n", [(250, b"a"), (550, b"b"), (354, b"c")]),
        (b"000 what\r\n999 what\r\n", [(0, b"what"), (999, b"what")]),
        (b"250 caf\xc3\xa9 \xff\r\n", [(250, b"caf\xc3\xa9 \xff")]),
        (b"250 half", []),
        (b"250-half\r\n", []),
    ],
)
def test_replies(octets: bytes, replies: list[tuple[int, bytes]]) -> None:
    """Single lines, several lines, several replies at once, nothing before it is complete."""
    assert replies == read(octets)


@given(st.data())
def test_any_cut_gives_the_same(data: st.DataObject) -> None:
    """TCP keeps no borders."""
    octets = b"250-one\r\n250 two\r\n550 5.1.1 no\r\n354 go\r\n250 2.0.0 queued\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1))))
    chunks = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    assert read(*chunks) == [(250, b"one\ntwo"), (550, b"5.1.1 no"), (354, b"go"), (250, b"2.0.0 queued")]


@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"25\r\n",
        b"\r\n",
        b"25x ok\r\n",
        b"+25 ok\r\n",
        b" 250 ok\r\n",
        b"2500 ok\r\n",
        b"250.ok\r\n",
        b"250\tok\r\n",
        "٢٥٠ ok\r\n".encode(),
        b"250-one\r\n251 two\r\n",
        b"250-one\r\nand two\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x16\x03\x01\x02\n",
    ],
)
def test_not_a_reply(octets: bytes) -> None:
    """What is not three digits and a mark, or changes its code in the middle, is refused."""
    with pytest.raises(NotAReply):
        read(octets)


def test_bounds() -> None:
    """A line, the lines and a whole reply are bounded, also when no line end ever comes."""
    assert read(b"250 " + b"x" * (MAX_LINE - 4) + b"\r\n")
    assert read(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")
    too_much = [
        b"250 " + b"x" * (MAX_LINE - 3) + b"\r\n",
        b"250 " + b"x" * (MAX_LINE + 100),
        b"250-x\r\n" * MAX_LINES + b"250 x\r\n",
        b"250-x\r\n" * (MAX_LINES + 1),
        (b"250-" + b"x" * 1000 + b"\r\n") * (MAX_REPLY // 1000 + 1),
    ]
    for octets in too_much:
        with pytest.raises(NotAReply, match="over"):
            read(octets)


def test_an_endless_line_is_not_kept() -> None:
    """The buffer never grows past the bound, however the octets drip."""
    reader = ReplyReader()
    with pytest.raises(NotAReply):
        for _ in range(MAX_LINE + 10):
            reader.feed(b"2")
            assert reader.next() is None


def test_leftover() -> None:
    """Octets nobody asked for are seen: half a line, a reply not taken, an open multi-line reply."""
    reader = ReplyReader()
    assert not reader.leftover
    reader.feed(b"250 a\r\n250 b\r\n")
    assert reader.next() == (250, b"a")
    assert reader.leftover
    assert reader.next() == (250, b"b")
    assert not reader.leftover
    reader.feed(b"25")
    assert reader.next() is None
    assert reader.leftover
    reader.feed(b"0-c\r\n")
    assert reader.next() is None
    assert reader.leftover
    reader.feed(b"250 d\r\n")
    assert reader.next() == (250, b"c\nd")
    assert not reader.leftover


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"plain ok", "plain ok"),
        (b"  trimmed \r", "trimmed"),
        (b"tab\there", "tab here"),
        (b"\x1b[2Jescape \x07bell \x00nul \x7fdel", "[2Jescape bell nul del"),
        (b"two\nlines", "two\nlines"),
        (b"two\rlines", "twolines"),
        ("é ünï ✓".encode(), "é ünï ✓"),
        (b"bad \xff utf-8", "bad \ufffd utf-8"),
        ("c1 \x9b31m rtl \u202egnp".encode(), "c1 31m rtl gnp"),
        ("line\u2028separator".encode(), "lineseparator"),
        (b"x" * 5000, "x" * MAX_TEXT),
    ],
)
def test_clean(octets: bytes, text: str) -> None:
    """Text that is safe to print: no control characters, no direction marks, bounded."""
    assert text == clean(octets)


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    """Nothing but NotAReply ever comes out, and clean text has no control character but LF."""
    reader = ReplyReader()
    reader.feed(octets)
    try:
        while (reply := reader.next()) is not None:
            assert 0 <= reply[0] <= 999
    except NotAReply as error:
        assert len(str(error)) < 200
    assert all(character == "\n" or ord(character) >= 32 for character in clean(octets))
