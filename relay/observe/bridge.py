"""What libraries say through the standard library's `logging`, in our log."""

from __future__ import annotations

import logging
from types import TracebackType

from relay.observe.log import ERROR, WARNING, Log


class Bridge(logging.Handler):
    """Brings what libraries say through the standard library's `logging` into our log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        part = record.name.partition(".")[0]
        try:
            text = record.getMessage()
        except (TypeError, ValueError) as error:  # wrong %-arguments in a library
            text = f"{record.msg!r} ({error})"
        if record.levelno >= WARNING:
            text = f"warning: {text}"
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            self._log.trace(part, "library", text, record.exc_info[1])
        else:
            self._log.write(min(record.levelno, ERROR), part, "library", text)


class bridged:  # read as a word: `with bridged(log):`
    """While it lasts, the root logger writes WARNING and above into our log and nowhere else."""

    def __init__(self, log: Log) -> None:
        self._bridge = Bridge(log)
        self._before: tuple[list[logging.Handler], int] = ([], WARNING)

    def __enter__(self) -> None:
        root = logging.getLogger()
        self._before = (list(root.handlers), root.level)
        root.handlers[:] = [self._bridge]
        root.setLevel(WARNING)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
