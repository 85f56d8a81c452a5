"""Large content over a connection: streamed with back-pressure, checked, cut; on both event loops."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.connected import connected, fate, send, short
from fakes.jobs import job
from fakes.loops import LOOPS, Run, running
from fakes.scripted_server import DROP, EXTENSIONS, RESET, STALL, Answer

from relay.delivery.connection import Connection
from relay.delivery.content_reader import BLOCK
from relay.delivery.job import Kind


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


LARGE = b"".join(b"%09d %s\r\n" % (number, b"x" * 90) for number in range(20_000))  # 2 MB


@pytest.mark.parametrize("extensions", [EXTENSIONS, (*EXTENSIONS, "STARTTLS")], ids=["plain", "TLS"])
def test_streams_a_file(run: Run, tmp_path: Path, extensions: tuple[str, ...]) -> None:
    """2 MB from a file, byte for byte, and the time it took."""

    async def scenario() -> None:
        async with connected(extensions=extensions) as (server, connection):
            work = job(content=LARGE, path=tmp_path / "content")
            verdict = await send(connection, work)
            assert fate(work)[0] == "d"
            assert server.contents == [LARGE]
            assert verdict.data > 0
            assert ("TLSv1.3" if "STARTTLS" in extensions else "") == connection.secure

    run(scenario())


def watch(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the transport asks for a pause."""
    paused, pause = asyncio.Event(), connection.pause_writing

    def pause_writing() -> None:
        pause()
        paused.set()

    monkeypatch.setattr(connection, "pause_writing", pause_writing)
    return paused


def test_back_pressure(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not read holds the stream up: memory stays bounded, and nothing is lost afterwards."""

    async def scenario() -> None:
        gate = asyncio.Event()
        async with connected({"CONTENT": gate}, receive_buffer=65536) as (server, connection):
            paused = watch(connection, monkeypatch)
            work = job(content=LARGE * 4, path=tmp_path / "content")
            sending = asyncio.ensure_future(send(connection, work))
            await paused.wait()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (
                connection._transport.get_write_buffer_size() < BLOCK + 65536
            )  # below that it does not pause
            gate.set()
            await sending
            assert server.contents == [LARGE * 4]

    run(scenario())


def test_a_peer_that_stops_reading(run: Run, tmp_path: Path) -> None:
    """A block that is not taken in its time: deferred, not ambiguous, for the dot was not sent."""

    async def scenario() -> None:
        async with connected({"CONTENT": STALL}, timeouts=short("block"), receive_buffer=8192) as (
            _,
            connection,
        ):
            work = job(content=LARGE * 4, path=tmp_path / "content")
            await send(connection, work)
            assert fate(work) == ("D", "4.4.2", "data")
            assert connection.closed

    run(scenario())


@pytest.mark.parametrize("answer", [DROP, RESET], ids=["EOF", "RST"])
def test_cut_in_mid_content(run: Run, tmp_path: Path, answer: Answer) -> None:
    """Before the dot a cut is not ambiguous."""

    async def scenario() -> None:
        async with connected({"CONTENT": answer}, receive_buffer=8192) as (_, connection):
            work = job(content=LARGE * 4, path=tmp_path / "content")
            await send(connection, work)
            assert fate(work) == ("D", "4.4.2", "data")

    run(scenario())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("552 5.3.4 too big", ("F", "5.3.4", "data")),
        ("451 4.3.1 disk", ("D", "4.3.1", "data")),
        ("250 2.0.0 ok", ("D", "4.5.0", "data")),
        ("421 4.3.2 bye", ("D", "4.3.2", "data")),
    ],
)
def test_a_reply_in_mid_content(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str, expected: tuple[str, str, str]
) -> None:
    """A refusal that comes early stands, a 250 does not; the connection is cut without the dot."""

    async def scenario() -> None:
        gate = asyncio.Event()
        async with connected({"CONTENT": (gate, reply, STALL)}, receive_buffer=8192) as (server, connection):
            paused = watch(connection, monkeypatch)
            work = job(content=LARGE * 4, path=tmp_path / "content")
            sending = asyncio.ensure_future(send(connection, work))
            await paused.wait()
            gate.set()
            await sending
            assert expected == fate(work)
            assert connection.closed
            assert server.contents == []

    run(scenario())


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("changed", "checksum"),
        ("cut", "octets"),
        ("longer", "octets"),
        ("gone", "opened"),
        ("nothing", "loaded"),
    ],
)
def test_corrupt_content(run: Run, tmp_path: Path, harm: str, words: str) -> None:
    """What is not what was accepted never gets its final dot; nobody is told anything but the lane."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            path = tmp_path / "content"
            work = job(content=LARGE, path=path)
            if harm == "changed":
                path.write_bytes(LARGE[:-5] + b"y" + LARGE[-4:])
            elif harm == "cut":
                path.write_bytes(LARGE[:-500])
            elif harm == "longer":
                path.write_bytes(LARGE + b"x")
            elif harm == "gone":
                path.unlink()
            else:
                work.loaded.path = None
            verdict = await send(connection, work)
            assert verdict.kind is Kind.CORRUPT
            assert words in verdict.text
            assert work.results == {}
            assert connection.closed
            await server.conversations[0].ended.wait()
            assert server.conversations[0].contents == []

    run(scenario())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_unreadable_content(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """No file descriptor left, or a disk error: our trouble of this moment, so deferred; no final dot."""

    def fails(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    async def scenario() -> None:
        async with connected({"RCPT#2": "550 5.1.1 unknown"}) as (server, connection):
            work = job("a@example.org", "b@example.org", content=LARGE, path=tmp_path / "content")
            with monkeypatch.context() as patched:
                patched.setattr(os, "open" if number == errno.EMFILE else "preadv", fails)
                verdict = await send(connection, work)
            assert verdict.kind is Kind.DONE
            assert [fate(work), fate(work, 1)] == [("D", "4.3.0", "data"), ("F", "5.1.1", "rcpt")]
            assert connection.closed
            await server.conversations[0].ended.wait()
            assert server.conversations[0].contents == []

    run(scenario())


def test_a_file_not_in_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot say what is cached, blocks are read in a thread."""
    monkeypatch.setattr("relay.delivery.content_reader._NOWAIT", None)

    async def scenario() -> None:
        async with connected() as (server, connection):
            await send(connection, job(content=LARGE, path=tmp_path / "content"))
            assert server.contents == [LARGE]

    run(scenario())


def test_a_cut_while_a_block_is_read(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread comes back when the job has ended: nothing comes of it, and the file is closed."""
    monkeypatch.setattr("relay.delivery.content_reader._NOWAIT", None)
    reading, go_on = threading.Event(), threading.Event()
    preadv = os.preadv

    def slow(descriptor: int, buffers: list[bytearray], offset: int) -> int:
        reading.set()
        go_on.wait(10)
        return preadv(descriptor, buffers, offset)

    async def scenario() -> None:
        async with connected() as (_, connection):
            path = tmp_path / "content"
            work = job(content=LARGE, path=path)
            monkeypatch.setattr(os, "preadv", slow)
            sending = asyncio.ensure_future(send(connection, work))
            await asyncio.to_thread(reading.wait, 10)
            connection.abort()
            await sending
            assert fate(work)[0] == "D"
            assert is_open(path)
            go_on.set()
            await asyncio.get_running_loop().shutdown_default_executor()
            await asyncio.sleep(0)
            assert not is_open(path)

    run(scenario())


def is_open(path: Path) -> bool:
    """Does this process hold the file open?"""
    return any(link.exists() and link.samefile(path) for link in Path("/proc/self/fd").iterdir())
