"""Bare CR and bare LF in content: found cheaply, turned into CRLF. Pure.

A block is a piece of content that starts and ends where no CRLF and no lone dot at a line start is cut in two
(`safe_cut`). What comes out is valid wire form: CR only before LF, LF only after CR, and no line that is a
lone dot. As in Postfix a line is a line however it ended, so dots that begin a line after a bare LF count as
stuffed.
"""

from __future__ import annotations

from io import IncrementalNewlineDecoder

_CLEAN = (None, "\r\n")
_LARGE = 4096  # octets from which on it pays to look for lines of one length
_SHORTEST = 32  # octets of such a line, the same


def has_bare(block: bytes) -> bool:
    """True when the block holds a CR without LF or an LF without CR.

    Hot. The decoder of io notes the kinds of line ends it meets, four times as fast as counting them."""
    decoder = IncrementalNewlineDecoder(None, False)
    decoder.decode(str(block if len(block) < _LARGE else _uneven(block), "latin-1"), True)
    return decoder.newlines not in _CLEAN


def _uneven(block: bytes) -> bytes:
    """The block without the lines in its middle that have one length, as those of an attachment in base64
    have, if they are clean. That is seen five times as fast: CRLF is where it has to be, and with that
    overwritten there is no CR and no LF."""
    middle = block.find(b"\n", len(block) // 2)
    step = block.find(b"\n", middle + 1) - middle
    if middle < 0 or step < _SHORTEST:
        return block
    first, here = middle % step, middle // step
    ends = block[first::step]  # where LF stands, if all lines are as long as the middle one
    before = len(ends[:here].rstrip(b"\n"))
    count = len(ends) - len(ends[here:].lstrip(b"\n")) - before - 1
    start = first + before * step + 1
    stop = start + count * step
    if 2 * (stop - start) < len(block):
        return block
    lines = bytearray(memoryview(block)[start:stop])
    if lines[step - 2 :: step] != b"\r" * count:
        return block
    lines[step - 2 :: step] = lines[step - 1 :: step] = bytes(count)
    return block if b"\r" in lines or b"\n" in lines else block[:start] + block[stop:]


def normalize(block: bytes, at_line_start: bool) -> bytes:
    """Every bare CR or LF becomes CRLF; a line "." that arises so is stuffed (..)."""
    lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if at_line_start and lines.startswith(b".\r\n"):
        lines = b"." + lines
    lines = lines.replace(b"\r\n.\r\n", b"\r\n..\r\n")
    return lines.replace(b"\r\n.\r\n", b"\r\n..\r\n")  # those that shared a CRLF with one replaced above


def ends_line(block: bytes) -> bool:
    return block.endswith((b"\n", b"\r"))


def safe_cut(data: bytes, cut: int) -> int:
    """The largest place <= cut where data may be cut: not inside a CRLF, not between a lone dot and its line
    end.

    0 <= cut < len(data). A dot at the very start of data is taken as one that begins a line. At most 2 less
    than cut.
    """
    if cut > 0 and data[cut - 1] == _CR and data[cut] == _LF:
        cut -= 1
    if (
        cut > 0
        and data[cut - 1] == _DOT
        and data[cut] in _LINE_ENDS
        and (cut == 1 or data[cut - 2] in _LINE_ENDS)
    ):
        cut -= 1
    return cut


_DOT, _CR, _LF, _LINE_ENDS = ord("."), ord("\r"), ord("\n"), frozenset(b"\r\n")
