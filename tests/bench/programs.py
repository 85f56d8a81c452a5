"""Which programs of others are there."""

from __future__ import annotations

import os
import shutil

PACKAGES = {"postfix": "postfix", "smtp-source": "postfix", "postqueue": "postfix", "haproxy": "haproxy",
            "strace": "strace"}  # fmt: skip


def lookup(name: str) -> str | None:
    """Its path; also looked for in the sbin directories, which not every PATH has."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    return shutil.which(name, path=path)


def found(name: str) -> str:
    """The same of one that must be there; FileNotFoundError."""
    path = lookup(name)
    if path is None:
        raise FileNotFoundError(missing(name))
    return path


def missing(name: str) -> str:
    return f"{name} is missing (Debian package {PACKAGES[name]})"
