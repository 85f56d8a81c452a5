"""How commands end: exit codes of sysexits.h, and the one exception that carries one."""

from __future__ import annotations

OK = 0
USAGE = 64  # wrong arguments
DATA = 65  # wrong input data
NO_INPUT = 66  # what was asked for is not there
UNAVAILABLE = 69  # the daemon or the spool cannot be reached now
SOFTWARE = 70  # a bug
IO = 74  # disk trouble
TEMPORARY = 75  # try again later
NO_PERMISSION = 77
CONFIG = 78


class Trouble(Exception):
    """A command cannot go on: text for people (one line), code for programs."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
