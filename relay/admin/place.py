"""Where the control socket is: `control` in the spool directory, also when that directory's path is long.

Where the service manager made a directory for sockets (RuntimeDirectory=), the socket is there and `control`
is a symbolic link to it: who asks needs to know the spool only.

A UNIX socket address holds 108 octets (unix(7)). For longer paths both sides open the directory and name the
socket through /proc/self/fd, which the kernel resolves to the same place.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NAME = "control"
LONGEST = 100  # octets of a path used as it stands


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """The first directory of RUNTIME_DIRECTORY (systemd.exec(5), RuntimeDirectory=); None without one."""
    first = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def socket_place(spool: Path, runtime: Path | None) -> Path:
    """Where the daemon of this spool listens. In a runtime directory each spool has a name of its own, so no
    daemon takes another's place."""
    if runtime is None:
        return spool / NAME
    return runtime / f"{NAME}-{zlib.crc32(os.fsencode(spool.resolve())):08x}"


@contextmanager
def socket_path(place: Path) -> Iterator[str]:
    """A path for bind or connect, valid inside the `with`. OSError when the directory cannot be opened."""
    plain = os.fspath(place)
    if len(os.fsencode(plain)) <= LONGEST:
        yield plain
        return
    directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{place.name}"
    finally:
        os.close(directory)
