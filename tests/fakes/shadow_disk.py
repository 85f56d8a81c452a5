"""What the disk of a spool would hold if the power went now: ShadowDisk keeps only what was synced.

It listens to mailqueue.durable: the database and its log are as at the last finished sync of the log,
content files as at their last sync, their names as at the last sync of the directory. What SQLite syncs by
itself, in a checkpoint, is taken as it stands at the next sync of the log.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mailqueue import durable

_NAMES = ("sync_log", "sync_file", "sync_directory")
_DATABASE = ("queue.db", "queue.db-wal")


class ShadowDisk:
    """listen() before the spool is opened, deafen() at the end."""

    def __init__(self) -> None:
        self._honest = {name: getattr(durable, name) for name in _NAMES}
        self._spool = Path()
        self._database: dict[str, bytes] = {}
        self._written: dict[str, bytes] = {}  # content files, by their last sync
        self._names: set[str] = set()  # in content/, by its last sync

    def listen(self, spool: Path) -> None:
        """From here on; what lies there is on the disk."""
        self._spool = spool
        self._database = self._read(spool, _DATABASE)
        self._names = self._listed()
        self._written = self._read(spool / "content", self._names)
        for name in _NAMES:
            setattr(durable, name, getattr(self, f"_{name}"))

    def deafen(self) -> None:
        for name, function in self._honest.items():
            setattr(durable, name, function)

    def image(self, target: Path, *, power: bool) -> None:
        """The spool after a kill (everything written is there) or a power cut (everything synced is)."""
        if not power:
            shutil.copytree(self._spool, target)
            return
        shutil.copytree(self._spool, target, ignore=shutil.ignore_patterns("queue.db*", "content"))
        (target / "content").mkdir()
        for name, data in self._database.items():
            (target / name).write_bytes(data)
        for name in self._names:
            (target / "content" / name).write_bytes(self._written.get(name, b""))

    def _listed(self) -> set[str]:
        content = self._spool / "content"
        return {path.name for path in content.iterdir()} if content.exists() else set()

    def _read(self, directory: Path, names: tuple[str, ...] | set[str]) -> dict[str, bytes]:
        return {name: (directory / name).read_bytes() for name in names if (directory / name).exists()}

    def _sync_log(self, descriptor: int) -> None:
        before = self._read(self._spool, _DATABASE)
        self._honest["sync_log"](descriptor)
        self._database = before

    def _sync_file(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        before = path.read_bytes()
        self._honest["sync_file"](descriptor)
        if path.parent.name == "content":
            self._written[path.name] = before

    def _sync_directory(self, path: Path) -> None:
        before = self._listed()
        self._honest["sync_directory"](path)
        if path.name == "content":
            self._names = before
