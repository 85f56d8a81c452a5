"""The end of a message and its newlines: every mix of CR, LF, NUL and dots, however the reads are cut."""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Iterable, Iterator

import pytest
from fakes.memory_queue import MemoryContent, MemoryQueue
from hypothesis import given
from hypothesis import strategies as st

from relay.front.header import Facts
from relay.front.intake import HEAD_LIMIT, Intake
from relay.front.newline import has_bare, normalize

END = b"\r\n.\r\n"
TRACE = b"Received: x\r\n"


def make(
    queue: MemoryQueue | None = None, limit: int = 2**20, hops: int = 50, reject: bool = False
) -> tuple[Intake, MemoryContent, list[Exception]]:
    bugs: list[Exception] = []
    content = (queue or MemoryQueue()).content()
    return Intake(content, lambda facts: TRACE, limit, hops, reject, bugs.append), content, bugs


def run(pieces: Iterable[bytes], reject: bool = False) -> tuple[bytes, bytes | None, Intake]:
    """(content below the trace, what came behind the message or None when it did not end, the intake)."""
    intake, content, bugs = make(reject=reject)
    rest = None
    for piece in pieces:
        rest = intake.feed(piece) if rest is None else rest + piece
    assert bugs == []
    if rest is not None and intake.refusal is None:
        assert content.data.startswith(TRACE)
    return content.data.removeprefix(TRACE), rest, intake


def expected(data: bytes) -> tuple[bytes, bytes]:
    """The same, slowly: only CRLF.CRLF ends; every line end becomes CRLF; a lone dot is stuffed."""
    end = (b"\r\n" + data).find(END)
    lines = re.split(rb"\r\n|\r|\n", data[:end])
    if lines[-1] == b"":
        lines.pop()
    mended = b"".join((b".." if line == b"." else line) + b"\r\n" for line in lines)
    return mended, data[end + 3 :]


def mixes(length: int) -> Iterator[bytes]:
    for octets in itertools.product(b"\r\n\0.", repeat=length):
        yield bytes(octets)


@pytest.mark.parametrize("length", range(6))
def test_no_smuggling(length: int) -> None:
    """The message ends where CRLF.CRLF stands and nowhere else; what is kept has no other end in it."""
    for mix in mixes(length):
        for data in (mix + END + b"NOOP\r\n", b"a" + mix + b"b" + END + b"NOOP\r\n", mix + b"b" + END):
            content, rest, _ = run([data])
            assert (content, rest) == expected(data), data
            assert not has_bare(content), data
            assert (b"\r\n" + content + b".\r\n").find(END) == len(content), data


@pytest.mark.parametrize("length", range(5))
def test_cuts_make_no_difference(length: int) -> None:
    """Octet by octet, and cut in two at every place."""
    for mix in mixes(length):
        data = b"a\r\n" + mix + b"b" + END + b"X"
        whole = run([data])[:2]
        assert run(data[i : i + 1] for i in range(len(data)))[:2] == whole, data
        for cut in range(3, len(data)):
            assert run([data[:cut], data[cut:]])[:2] == whole, (data, cut)


@given(st.text(st.sampled_from("\r\n.a\0"), max_size=60), st.lists(st.integers(0, 70), max_size=6))
def test_any_cuts(text: str, cuts: list[int]) -> None:
    """The same for longer mixes and several cuts, starts included."""
    data = text.encode() + END + b"rest"
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    content, rest, _ = run(data[a:b] for a, b in itertools.pairwise(places))
    assert (content, rest) == expected(data)


@pytest.mark.parametrize("length", range(5))
def test_reject(length: int) -> None:
    """With reject: any bare CR or LF refuses the message, after its end; clean ones pass untouched."""
    for mix in mixes(length):
        data = b"a" + mix + b"b" + END
        end = data.find(END) + 2
        _, rest, intake = run([data], reject=True)
        assert rest == data[end + 3 :]
        assert (intake.refusal is not None) == has_bare(data[:end]), data


@given(st.binary(max_size=300))
def test_clean_content_is_untouched(body: bytes) -> None:
    """Bytes are carried: without bare CR or LF what was stuffed comes out as it came in, NUL and 8-bit
    too."""
    clean = body.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..")
    if clean.startswith(b"."):
        clean = b"." + clean
    data = (clean.removesuffix(b"\r\n") + END) if clean.removesuffix(b"\r\n") else b".\r\n"
    content, rest, intake = run([data])
    assert (content, rest, intake.normalized) == (data[:-3], b"", False)


def test_empty_body() -> None:
    """A lone dot right at the start, in any cut."""
    for pieces in ([b".\r\nX"], [b".", b"\r", b"\nX"], [b".\r", b"\nX"]):
        assert run(pieces)[:2] == (b"", b"X")


def test_normalize_table() -> None:
    """Dots at line starts after a bare LF stay as they are (Postfix); only a lone one is stuffed."""
    assert normalize(b"a\n.b\n..\n.\n", True) == b"a\r\n.b\r\n..\r\n..\r\n"
    assert normalize(b".\n", False) == b".\r\n"
    assert normalize(b"\n.\n.\n.\n.\n", True) == b"\r\n" + b"..\r\n" * 4


def test_size_limit_is_exact() -> None:
    """Octets without stuffed dots (RFC 1870); over it the rest is dropped and nothing is kept."""
    body = b"..345678\r\n" * 100  # 900 octets
    for size, refused in ((900, False), (899, True)):
        for pieces in ([body + b".\r\n"], [body[:1], body[1:333], body[333:], b".\r\n"]):
            intake, content, _ = make(limit=size)
            for piece in pieces:
                intake.feed(piece)
            assert (intake.refusal is not None) is refused, (size, len(pieces))
            assert content.discarded is refused


def test_too_big_is_swallowed_without_memory() -> None:
    """Nothing is kept of what comes after the limit."""
    intake, content, _ = make(limit=1000)
    block = b"x" * 70 + b"\r\n"
    for _ in range(2000):
        assert intake.feed(block) is None
    assert len(intake.carry) < 10 and content.data == b""
    assert intake.feed(b".\r\nNOOP\r\n") == b"NOOP\r\n"
    assert intake.refusal is not None and intake.refusal.reply.enhanced == "5.3.4"


def test_one_long_line() -> None:
    """A line longer than any read passes in pieces."""
    line = b"y" * 300_000
    content, rest, _ = run([line[:100_000], line[100_000:], END])
    assert (content, rest) == (line + b"\r\n", b"")


def test_hostile_line_ends_are_not_held_back() -> None:
    """What waits for the next read is a handful of octets, whatever comes."""
    for hostile in (b"\r", b"\n", b".", b"\n.\r", b"\r\n.", b"\r.", b"\r\n.\r"):
        intake, _, _ = make(limit=2**30)
        intake.feed(b"X: y\r\n\r\n" + hostile * 50_000)
        assert len(intake.carry) <= 8, hostile


def test_facts_from_a_header_in_pieces() -> None:
    """The header section is looked at once it is complete; long ones up to HEAD_LIMIT."""
    seen: list[Facts] = []

    def trace(facts: Facts) -> bytes:
        seen.append(facts)
        return TRACE

    content = MemoryQueue().content()
    intake = Intake(content, trace, 2**30, 50, False, lambda error: None)
    for octet in b"Received: 1\r\nMessage-ID: <x>\r\n\r\nReceived: 2\r\n":
        intake.feed(bytes((octet,)))
    assert (seen[0].hops, seen[0].message_id) == (1, "<x>")
    assert content.data.startswith(TRACE + b"Received: 1\r\n")
    assert len(seen) == 1

    content = MemoryQueue().content()
    intake = Intake(content, trace, 2**30, 50, False, lambda error: None)
    for _ in range(HEAD_LIMIT // 1000 + 2):
        intake.feed(b"X" * 998 + b"\r\n")
    assert content.size > HEAD_LIMIT, "an endless header section is not kept in memory"


def test_hop_limit() -> None:
    """5.4.6, and nothing is kept."""
    intake, content, _ = make(hops=2)
    assert intake.feed(b"Received: x\r\n" * 3 + b"\r\n.\r\n") == b""
    assert intake.refusal is not None and intake.refusal.reply.enhanced == "5.4.6"
    assert content.discarded


@pytest.mark.parametrize(
    ("code", "reply"), [(errno.ENOSPC, 452), (errno.EDQUOT, 452), (errno.EFBIG, 452), (errno.EIO, 451)]
)
def test_spool_error_in_the_middle(code: int, reply: int) -> None:
    """The rest is read, the content given up, the answer temporary."""
    queue = MemoryQueue()
    queue.breaks_at = (1000, OSError(code, "trouble"))
    intake, content, _ = make(queue)
    for _ in range(100):
        assert intake.feed(b"x" * 98 + b"\r\n") is None
    assert intake.feed(b".\r\n") == b""
    assert intake.refusal is not None and intake.refusal.reply.code == reply
    assert content.discarded


def test_bug_in_the_middle() -> None:
    """An exception in our code: 451 at the end, told once."""
    queue = MemoryQueue()
    queue.bug = RuntimeError("bug")
    intake, content, bugs = make(queue)
    assert intake.feed(b"a\r\n\r\n" + b"x\r\n" * 100) is None
    assert intake.feed(b".\r\n") == b""
    assert intake.refusal is not None and intake.refusal.reply.code == 451
    assert bugs == [queue.bug] and content.discarded
