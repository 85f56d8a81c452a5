"""The mail of tests/fixtures/mail: real shapes, one file each, with CRLF line ends, as bytes."""

from __future__ import annotations

from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "fixtures" / "mail"


def files() -> list[Path]:
    """Every file, by name."""
    return sorted(DIRECTORY.glob("*.eml"))


def arrives(content: bytes) -> bytes:
    """What a next hop must get of a file's content: SMTP carries whole lines, so the last is ended."""
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"
