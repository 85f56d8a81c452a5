"""Content in wire form: lines end with CRLF, lines that begin with a dot have it doubled (RFC 5321 4.5.2).

Content is kept on the spool in wire form, without the final ".": what a client sent needs no pass over it on
the way in, and none on the way out. It is empty or ends with CRLF. Only what people or programs read as a
file (captured .eml, returned content in a bounce) is un-stuffed.
"""

from __future__ import annotations

END = b".\r\n"


def stuff(content: bytes) -> bytes:
    """Plain content -> wire form: line ends become CRLF, leading dots are doubled, the last line is ended."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if lines and not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    if lines.startswith(b"."):
        lines = b"." + lines
    return lines.replace(b"\r\n.", b"\r\n..")


def unstuff(wire: bytes) -> bytes:
    """Wire form -> plain content with CRLF line ends."""
    plain = wire.replace(b"\r\n.", b"\r\n")
    return plain[1:] if plain.startswith(b".") else plain
