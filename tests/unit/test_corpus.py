"""The corpus of mail: that it survived the checkout, and holds every shape the tests count on."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fakes.corpus import arrives, files

MAIL = {path.stem: path.read_bytes() for path in files()}


def longest(data: bytes) -> int:
    return max(map(len, data.split(b"\r\n")))


def body(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


SHAPES: dict[str, Callable[[bytes], object]] = {
    "multipart of each kind": lambda data: re.search(
        rb"multipart/(mixed|alternative|related|report|signed)", data
    ),
    "8-bit": lambda data: not data.isascii(),
    "line over 998": lambda data: longest(data) > 998,
    "line over 64 KiB": lambda data: longest(data) > 65536,
    "content over the queue's inline limit": lambda data: len(data) > 128 * 1024,
    "line that begins with a dot": lambda data: b"\r\n." in data,
    "line of one dot": lambda data: b"\r\n.\r\n" in data,
    "dot at the very start": lambda data: data.startswith(b"."),
    "dot at the very end": lambda data: data.endswith(b"\r\n."),
    "empty": lambda data: not data,
    "empty body": lambda data: data.endswith(b"\r\n\r\n") and not body(data),
    "header without a blank line": lambda data: data.startswith(b"From:") and b"\r\n\r\n" not in data,
    "body without a header": lambda data: data.startswith(b"\r\n") and len(data) > 2,
    "no line end at the end": lambda data: data and not data.endswith(b"\r\n"),
    "nul": lambda data: b"\0" in data,
    "trailing space": lambda data: b" \r\n" in data,
    "many hops": lambda data: 30 < data.count(b"\r\nReceived:") < 49,
    "UTF-8 in the header": lambda data: not data.partition(b"\r\n\r\n")[0].isascii(),
    "folded header": lambda data: re.search(rb"\r\n[ \t]", data.partition(b"\r\n\r\n")[0]),
    "header over 64 KiB": lambda data: len(data.partition(b"\r\n\r\n")[0]) > 65536,
    "SMTP commands": lambda data: b"\r\nQUIT\r\n" in data,
}


def test_there_are_enough_and_all_differ() -> None:
    """At least 44 files, no two the same."""
    assert len(MAIL) >= 44
    assert len(set(MAIL.values())) == len(MAIL)


@pytest.mark.parametrize("name", MAIL)
def test_lines_end_with_crlf(name: str) -> None:
    """A checkout that converts line ends would make every byte test lie."""
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", MAIL[name])


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_is_there(shape: str) -> None:
    """The corpus has the shape."""
    assert [name for name, data in MAIL.items() if SHAPES[shape](data)]


@pytest.mark.parametrize("name", MAIL)
def test_nobody_real_is_named(name: str) -> None:
    """Addresses are of the domains and networks that are kept for examples (RFC 2606, 5737, 3849)."""
    text = MAIL[name].decode(errors="replace")
    domains = re.findall(r"@([\w-]+(?:\.[\w-]+)+)", text) + re.findall(r"https?://([\w.-]+)", text)
    assert not [domain for domain in domains if not re.search(r"(^|\.)example(\.com|\.net|\.org)?$", domain)]


def test_what_arrives_has_ended_lines() -> None:
    """Only a missing last line end is added."""
    assert arrives(b"a\r\n.") == b"a\r\n.\r\n"
    assert arrives(b"a\r\n") == b"a\r\n"
    assert arrives(b"") == b""
