"""A machine that is no container, with directories that everybody can come through, as real ones have.

Pytest's own are closed to others, and tests may run in a container: there nothing is exposed.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from relay import exposure


def open_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the mode of the file decides."""
    monkeypatch.setattr(exposure, "exposed", readable)


def readable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)
