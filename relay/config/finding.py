"""A conflict between keys."""

from __future__ import annotations

from dataclasses import dataclass

from relay.config.problem import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """path: where it is reported; also: the other keys it depends on."""

    path: Path
    text: str
    also: tuple[Path, ...] = ()
