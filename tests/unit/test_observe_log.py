"""The log: its lines, who can write them, and what happens when nobody reads."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from pathlib import Path
from typing import cast

import pytest
from fakes.clock import FakeClock
from fakes.front import FakeLoop

from relay.observe.bridge import bridged
from relay.observe.log import ERROR, GATHER, INFO, WARNING, Log
from relay.observe.sink import BUFFER, Sink


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log"


def opened(path: Path, style: str = "text", level: str = "info") -> Log:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Log(descriptor, style=style, level=level, hostname="mail", clock=FakeClock(1_700_000_000.25).time)


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_text_lines_look_like_syslog(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time as syslog writes it (the day padded with a space), host, program/part[pid], text."""
    monkeypatch.setenv("TZ", "UTC")
    log = opened(file)
    log.write(INFO, "smtp", "attempt", "q: to=<a@b>")
    log._clock = FakeClock(1_699_000_000.0).time
    log.write(INFO, "smtp", "attempt", "q: again")
    log.close()
    assert lines(file) == [
        f"Nov 14 22:13:20 mail relay/smtp[{os.getpid()}]: q: to=<a@b>",
        f"Nov  3 08:26:40 mail relay/smtp[{os.getpid()}]: q: again",
    ]


def test_json_lines_have_the_facts(file: Path) -> None:
    """One object each; the text only where there are no facts."""
    log = opened(file, "json")
    log.write(WARNING, "smtp", "attempt", "unused", queue_id="q", code=451, odd=Path("/x"))
    log.write(INFO, "master", "info", "hello")
    log.close()
    first, second = (json.loads(line) for line in lines(file))
    assert first == {
        "time": "2023-11-14T22:13:20.250Z", "level": "warning", "part": "smtp", "event": "attempt",
        "queue_id": "q", "code": 451, "odd": "/x",
    }  # fmt: skip
    assert second["message"] == "hello"


HOSTILE = [
    "a\nNov 21 22:15:21 mail relay/smtp[1]: forged",
    "b\r\n\x1b[2Jc",
    "d\x00\x7fe",
    "f\u2028g\u0085h\u202ei",
    "k\udc80l",
    'm"n\\o',
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("style", ["text", "json"])
def test_nobody_else_writes_a_line(file: Path, style: str, text: str) -> None:
    """Line ends, control characters, odd Unicode: one line stays one line, and all of it is printable."""
    log = opened(file, style)
    log.write(INFO, "smtpd", "reject", "before")
    log.write(INFO, "smtpd", "reject", f"x {text} y", text=text)
    log.close()
    written = file.read_bytes().decode("utf-8")
    assert len(written.split("\n")) == 3
    assert all(line.isprintable() for line in written.rstrip("\n").split("\n"))
    if style == "json":
        assert json.loads(lines(file)[1])["text"] == text


def test_letters_of_other_languages_stay(file: Path) -> None:
    """Only what cannot be printed is escaped."""
    log = opened(file)
    log.write(INFO, "smtp", "attempt", "to=<jörg@bücher.example>")
    log.close()
    assert lines(file)[0].endswith("to=<jörg@bücher.example>")


def test_levels_filter(file: Path) -> None:
    """Below the level nothing is written; a reload changes it and the form."""
    log = opened(file, level="warning")
    log.write(INFO, "a", "b", "not this")
    log.write(WARNING, "a", "b", "this")
    log.configure(style="json", level="info")
    log.write(INFO, "a", "b", "and this")
    log.close()
    assert [line[-4:] for line in lines(file)] == ["this", 's"}'.rjust(4, "i")]
    assert json.loads(lines(file)[1])["time"] == "2023-11-14T22:13:20.250Z"


class CountingSink(Sink):
    """Counts the blocks it is given."""

    blocks = 0

    def put(self, block: bytes, lines: int) -> None:
        self.blocks += 1
        super().put(block, lines)


async def test_one_write_for_all_lines_of_a_turn(file: Path) -> None:
    """Lines of one turn of the loop go out together; an error at once, with what waited before it."""
    log = opened(file)
    sink = log._sink = CountingSink(os.open(file, os.O_WRONLY | os.O_APPEND))
    log.attach(asyncio.get_running_loop())
    for number in range(100):
        log.write(INFO, "a", "b", str(number))
    assert sink.blocks == 0
    await asyncio.sleep(0)
    assert sink.blocks == 1
    assert len(lines(file)) == 100
    log.write(INFO, "a", "b", "before")
    log.write(ERROR, "a", "b", "error")
    assert sink.blocks == 2
    assert lines(file)[-1].endswith("error")
    log.close()


def test_lines_that_follow_each_other_share_a_write(file: Path) -> None:
    """The first after a quiet moment goes out at once, those behind it every few milliseconds."""
    log, loop = opened(file), FakeLoop()
    sink = log._sink = CountingSink(os.open(file, os.O_WRONLY | os.O_APPEND))
    log.attach(cast(asyncio.AbstractEventLoop, loop))
    log.write(INFO, "a", "b", "first")
    loop.advance(0)
    assert sink.blocks == 1
    for _ in range(3):
        log.write(INFO, "a", "b", "next")
        loop.advance(GATHER / 4)
    assert sink.blocks == 1
    loop.advance(GATHER)
    assert (sink.blocks, len(lines(file))) == (2, 4)
    loop.advance(GATHER)
    log.write(INFO, "a", "b", "later")
    loop.advance(0)
    assert sink.blocks == 3
    log.close()


async def test_lines_of_another_thread_arrive(file: Path) -> None:
    """A thread's line wakes the loop."""
    log = opened(file)
    log.attach(asyncio.get_running_loop())
    thread = threading.Thread(target=log.write, args=(INFO, "a", "b", "from a thread"))
    thread.start()
    await asyncio.to_thread(thread.join)
    for _ in range(100):
        await asyncio.sleep(0)
        if lines(file):
            break
    assert lines(file)[0].endswith("from a thread")
    log.close()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_sleeps_blocks_nobody(kind: str) -> None:
    """Lines wait up to a bound, the rest is dropped and counted; when it wakes it gets what waited."""
    reading, writing = pair(kind)
    log = Log(writing, hostname="mail")
    line = "x" * 1000
    total = 2 * BUFFER // 1000
    for _ in range(total):
        log.write(INFO, "a", "b", line)
    assert 0 < log.dropped < total
    received = bytearray()
    thread = threading.Thread(target=swallow, args=(reading, received))
    thread.start()
    log.close()
    os.close(writing)
    thread.join(20)
    assert not thread.is_alive()
    text = received.decode()
    assert text.count(line) == total - log.dropped
    os.close(reading)


def pair(kind: str) -> tuple[int, int]:
    """Descriptors to read from and to write to."""
    if kind == "pipe":
        return os.pipe()
    one, two = socket.socketpair()
    return one.detach(), two.detach()


def swallow(descriptor: int, into: bytearray) -> None:
    while block := os.read(descriptor, 65536):
        into += block


def test_the_note_about_lost_lines() -> None:
    """As soon as somebody reads again the loss is told."""
    reading, writing = os.pipe()
    log = Log(writing, hostname="mail")
    for _ in range(2 * BUFFER // 1000):
        log.write(INFO, "a", "b", "x" * 1000)
    received = bytearray()
    thread = threading.Thread(target=swallow, args=(reading, received))
    thread.start()
    assert log._sink is not None
    log._sink.drain(10)
    log.write(INFO, "a", "b", "awake")
    log.close()
    os.close(writing)
    thread.join(20)
    os.close(reading)
    assert b"log lines were lost" in received
    assert b"awake" in received


@pytest.mark.parametrize("broken", ["no reader", "closed", "full disk"])
def test_a_broken_log_raises_nothing(broken: str) -> None:
    """Without anybody to read the relay goes on; the lines are counted."""
    if broken == "full disk":
        writing = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, writing = os.pipe()
        os.close(reading)
        if broken == "closed":
            os.close(writing)
    log = Log(writing, hostname="mail")
    for _ in range(5):
        log.write(INFO, "a", "b", "lost")
    assert log.dropped >= 5
    log.close()
    log.write(INFO, "a", "b", "after the end")


def test_libraries_are_bridged(file: Path) -> None:
    """What aiohttp and asyncio say through `logging` stands in our log, with its traceback."""
    log = opened(file, "json")
    with bridged(log):
        logger = logging.getLogger("aiohttp.server")
        logger.info("not this")
        logger.warning("hello %s", "\nworld")
        logger.error("wrong %d arguments", "x")
        try:
            raise ValueError("inside")
        except ValueError:
            logger.exception("Error handling request")
    log.close()
    first, second, third = (json.loads(line) for line in lines(file))
    assert (first["part"], first["level"], first["message"]) == (
        "aiohttp",
        "warning",
        "warning: hello \nworld",
    )
    assert "wrong %d arguments" in second["message"]
    assert "ValueError: inside" in third["traceback"]
