"""What somebody is told who may not ask this relay."""

from __future__ import annotations

import pwd
from pathlib import Path

from relay.cli.exits import NO_PERMISSION, Trouble


def denied(spool: Path) -> Trouble:
    """Names the user to be, where that can be seen."""
    try:
        owner = user_name(spool.stat().st_uid)
    except OSError:
        return Trouble(f"{spool}: permission denied: run this as the relay's user or as root", NO_PERMISSION)
    return Trouble(f"{spool} belongs to {owner}: run this as that user or as root", NO_PERMISSION)


def user_name(number: int) -> str:
    """ "user relay", "user id 10001" where it has no name."""
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user id {number}"
