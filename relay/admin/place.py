"""Where the control socket is: `control` in the spool directory, also when that directory's path is long.

A UNIX socket address holds 108 octets (unix(7)). For longer paths both sides open the directory and name the
socket through /proc/self/fd, which the kernel resolves to the same place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "control"
LONGEST = 100  # octets of a path used as it stands


@contextmanager
def socket_path(spool: Path) -> Iterator[str]:
    """A path for bind or connect, valid inside the `with`. OSError when the directory cannot be opened."""
    plain = os.fspath(spool / NAME)
    if len(os.fsencode(plain)) <= LONGEST:
        yield plain
        return
    directory = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{NAME}"
    finally:
        os.close(directory)
