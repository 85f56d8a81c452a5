"""Log lines: Postfix-like text, or one JSON object each, collected and written at the end of the event loop's
turn, or once in 5 ms where more are coming.

`write` costs about a microsecond: it appends to a list. The lines are checked for control characters
together, encoded once and given to the sink in one piece; ERROR and above go out at once. Nothing here raises
or blocks (sink.py). The text form is what pflogsumm and people read:

    Nov 21 22:15:21 mail relay/smtp[814]: 1j9m2k4tq0d: to=<a@example.org>, ... status=sent (250 2.0.0 Ok)

The host name is the machine's or the configured one; the time is local. In JSON the time is UTC.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import threading
import time
from collections.abc import Callable

from pydantic_core import PydanticSerializationError, to_json

from relay.observe.sink import Sink
from relay.observe.text import printable

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
NAMES = {DEBUG: "debug", INFO: "info", WARNING: "warning", ERROR: "error"}
CONTROLS = bytes(range(32)) + b"\x7f"
GATHER = 0.005  # s between two writes of lines
RETRY = 0.1  # s until a blocked sink is tried again
LAST_WORDS = 1.0  # s a slow reader gets at the end
TRACEBACK_LINES = 60


class Log:
    """descriptor: where to write; None: nowhere (a log for tests and tools)."""

    def __init__(
        self,
        descriptor: int | None = None,
        *,
        style: str = "text",
        level: str = "info",
        hostname: str = "localhost",
        program: str = "relay",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.level = LEVELS[level] if descriptor is not None else logging.CRITICAL
        self.json = style == "json"
        self._sink = Sink(descriptor) if descriptor is not None else None
        self._host, self._program, self._clock = hostname, program, clock
        self._pid = os.getpid()
        self._lines: list[str] = []
        self._second = -1
        self._stamp = ""
        self._heads: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._planned = False
        self._flushed = 0.0  # loop time
        self._told = 0

    @property
    def dropped(self) -> int:
        """Lines lost so far because nobody read them."""
        return self._sink.dropped if self._sink else self._told

    def configure(self, *, style: str, level: str) -> None:
        """After a reload."""
        if self._sink:
            self.flush()
            self.json, self.level = style == "json", LEVELS[level]
            self._second = -1  # the kept time text is that of the old style

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on lines are gathered and written by `loop`, from its thread; before, each at once."""
        self._loop, self._thread = loop, threading.get_ident()
        atexit.register(self.close)

    def write(self, level: int, part: str, event: str, text: str, /, **facts: object) -> None:
        """One line of `part` ("smtpd", "qmgr", "smtp" ...): `text` in text form, `event` and `facts` in JSON.

        In JSON `text` becomes "message" where there are no facts. Either may hold anything: it is escaped."""
        if level < self.level:
            return
        now = self._clock()
        if int(now) != self._second:
            self._turn(int(now))
        if self.json:
            self._lines.append(self._object(now, level, part, event, text, facts))
        else:
            self._lines.append(f"{self._heads.get(part) or self._head(part)}{text}\n")
        if level >= ERROR:
            self.flush()
        elif not self._planned:
            self._plan()

    def trace(self, part: str, event: str, text: str, error: BaseException, /, **facts: object) -> None:
        """An error with its traceback, at once: a line each in text form, one member in JSON."""
        lines = _traceback(error)
        if self.json:
            self.write(ERROR, part, event, text, message=text, traceback="\n".join(lines), **facts)
            return
        for line in (text, *(f"| {line}" for line in lines)):
            self.write(ERROR, part, event, line)

    def flush(self) -> None:
        """Gives the collected lines to the sink; comes again by itself while the sink is blocked."""
        self._planned = False
        lines, self._lines = self._lines, []
        if not self._sink:
            return
        if lines:
            lost = self._sink.dropped - self._told
            if lost and not self._sink.waiting:  # somebody reads again
                self._told = self._sink.dropped
                lines.insert(0, self._note(lost))
            block = "".join(lines).encode("ascii", "backslashreplace") if self.json else _encoded(lines)
            self._sink.put(block, len(lines))
        if not self._sink.push() and self._loop and not self._loop.is_closed() and self._at_home():
            self._planned = True
            self._loop.call_later(RETRY, self.flush)

    def close(self) -> None:
        """Writes what is left, waiting a moment for a slow reader. Idempotent; later lines go nowhere."""
        atexit.unregister(self.close)
        self._loop = None
        if self._sink:
            self.flush()
            self._sink.drain(LAST_WORDS)
            self._sink.close()
            self._told = self._sink.dropped
            self._sink, self.level = None, logging.CRITICAL

    def _plan(self) -> None:
        if self._loop is None or self._loop.is_closed():
            self.flush()
            return
        self._planned = True
        if not self._at_home():
            self._loop.call_soon_threadsafe(self._gathered)
        elif self._loop.time() - self._flushed < GATHER:
            self._loop.call_later(GATHER, self._gathered)
        else:
            self._loop.call_soon(self._gathered)

    def _gathered(self) -> None:
        if self._loop is not None:
            self._flushed = self._loop.time()
        self.flush()

    def _at_home(self) -> bool:
        return threading.get_ident() == self._thread

    def _note(self, lost: int) -> str:
        """The line that says how many lines nobody read."""
        if self.json:
            return self._object(self._clock(), WARNING, "log", "dropped", "", {"lines": lost})
        return f"{self._head('log')}warning: {lost} log lines were lost: nobody read them\n"

    def _turn(self, second: int) -> None:
        """Another second: the texts kept for the old one are made anew."""
        self._second = second
        self._heads.clear()
        local = time.localtime(second)
        self._stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            if self.json
            else f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}"
        )

    def _head(self, part: str) -> str:
        head = f"{self._stamp} {self._host} {self._program}/{part}[{self._pid}]: "
        self._heads[part] = head
        return head

    def _object(
        self, now: float, level: int, part: str, event: str, text: str, facts: dict[str, object]
    ) -> str:
        stamp = f"{self._stamp}.{int(now % 1 * 1000):03d}Z"
        head = f'{{"time":"{stamp}","level":"{NAMES.get(level, "error")}","part":"{part}","event":"{event}",'
        return f"{head}{_members(facts or {'message': text})}\n"


_ascii_json = json.JSONEncoder(separators=(",", ":"), default=str).encode
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _encoded(lines: list[str]) -> bytes:
    """The lines as UTF-8, control characters inside a line escaped: nobody else can write a line of ours."""
    whole = "".join(lines)
    if whole.isascii():
        block = whole.encode("ascii")
        if len(block) - len(block.translate(None, CONTROLS)) == len(lines):  # only the line ends
            return block
    return "".join(f"{printable(line[:-1])}\n" for line in lines).encode()


def _members(facts: dict[str, object]) -> str:
    """The members of a JSON object and its closing brace, all ASCII: no line end, no odd character."""
    try:
        text = to_json(facts, fallback=str).decode()  # a quarter of the cost of the standard library's
    except PydanticSerializationError:  # a lone surrogate
        text = ""
    return (text if text.isascii() and text else _ascii_json(facts))[1:].replace("\x7f", "\\u007f")


def _traceback(error: BaseException) -> list[str]:
    import traceback  # only when something is wrong

    text = "".join(traceback.format_exception(error)).rstrip("\n")
    lines = text.split("\n")
    if len(lines) > TRACEBACK_LINES:
        half = TRACEBACK_LINES // 2
        lines = [*lines[:half], f"... {len(lines) - TRACEBACK_LINES} lines ...", *lines[-half:]]
    return lines
