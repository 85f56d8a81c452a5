"""The listener over loopback with the real queue, on both loops: limits, large messages, shutdown, files run
out."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fakes.front import NOW, DomainRoutes, RecordingEvents, make_service

from mailqueue import Filter, Options, Queue
from relay.config.model import Config
from relay.config.model import Listener as ListenerConfig
from relay.front.admission import Admission
from relay.front.channel import Channel
from relay.front.listener import Listener, is_accept_trouble, stop_listeners
from relay.front.service import Service

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
PATIENCE = 5.0


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    """Runs the coroutine on asyncio's loop and on uvloop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(tmp_path: Path, loop: str) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(asyncio.wait_for(test(tmp_path), 30))

    run.__doc__ = test.__doc__
    return run


class Front:
    """A listener on a free port."""

    def __init__(self, service: Service, admission: Admission[Channel]) -> None:
        self.admission = admission
        self.listener = Listener(service, admission)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.address)


@asynccontextmanager
async def front(service: Service, **limits: int) -> AsyncIterator[Front]:
    admission: Admission[Channel] = Admission(
        limits.get("sessions", 100), limits.get("sessions_per_client", 100), limits.get("files")
    )
    running = Front(service, admission)
    await running.listener.start()
    try:
        yield running
    finally:
        await stop_listeners([running.listener], admission, PATIENCE)


async def say(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes, replies: int
) -> list[str]:
    """Send; read so many final reply lines."""
    writer.write(text)
    found: list[str] = []
    while len(found) < replies:
        line = (await asyncio.wait_for(reader.readline(), PATIENCE)).decode()
        assert line, "closed"
        if line[3] == " ":
            found.append(line[:9])
    return found


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


@on_both_loops
async def test_real_queue(tmp_path: Path) -> None:
    """A small message and one of 3 MB, byte for byte in the real queue, under the id that was told."""
    queue = await Queue.open(tmp_path / "spool", Options(reserve=0, ballast=0))
    events = RecordingEvents()
    config = Config(hostname="relay.example.com")
    service = Service(
        config, ListenerConfig(address="127.0.0.1:0"), queue, DomainRoutes(), events, lambda: NOW
    )
    bodies = [b"Subject: small\r\n\r\n..\r\n", b"Subject: large\r\n\r\n" + (b"x" * 78 + b"\r\n") * 40_000]
    try:
        async with front(service) as running:
            reader, writer = await running.connect()
            await say(reader, writer, b"EHLO c\r\n", 2)
            for body in bodies:
                begin = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n"
                assert (await say(reader, writer, begin, 3))[-1][:3] == "354"
                assert await say(reader, writer, body + b".\r\n", 1) == ["250 2.0.0"]
            await close(writer)
        assert [size for _, _, size, _ in events.receipts] == [
            row.size for row in await queue.search(Filter())
        ]
        for (name, _, _, _), body in zip(events.receipts, bodies, strict=True):
            stored = await queue.read_content(name)
            data = stored.read_bytes() if isinstance(stored, Path) else stored
            assert data is not None and data.partition(b" +0000\r\n")[2] == body
            assert f" id {name}\r\n".encode() in data.partition(b" +0000\r\n")[0]
    finally:
        await queue.close()


@on_both_loops
async def test_limits(_: Path) -> None:
    """421 4.7.0 and closed; a place that becomes free is given again."""
    events = RecordingEvents()
    async with front(make_service(events=events), sessions_per_client=2) as running:
        connections = [await running.connect() for _ in range(3)]
        greetings = [(await reader.readline())[:9] for reader, _ in connections]
        assert [greeting[:3] for greeting in greetings] == [b"220", b"220", b"421"]
        assert greetings[2] == b"421 4.7.0"
        assert await connections[2][0].read() == b"" and len(running.admission) == 2
        await say(*connections[0], b"QUIT\r\n", 1)
        assert await connections[0][0].read() == b""
        again = await running.connect()
        assert (await again[0].readline())[:3] == b"220"
        await close(*(writer for _, writer in [*connections, again]))
    assert events.refusals == ["sessions_per_client"]
    assert events.opened == events.closed == 3


@on_both_loops
async def test_files_are_kept_for_others(_: Path) -> None:
    """Few descriptors left: 421 4.3.2, told, before the system runs out."""
    events = RecordingEvents()
    async with front(make_service(events=events), files=4) as running:
        reader, writer = await running.connect()
        assert (await reader.read())[:9] == b"421 4.3.2"
        await close(writer)
    assert events.refusals == ["files"]


@on_both_loops
async def test_shutdown(_: Path) -> None:
    """Nobody is accepted any more, idle sessions hear 421 4.3.2, a commit is waited for, the rest is cut."""
    service = make_service()
    queue: Any = service.queue
    queue.held = True
    async with front(service) as running:
        idle, committing, stuck = [await running.connect() for _ in range(3)]
        for connection in (committing, stuck):
            begin = b"HELO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n"
            assert (await say(*connection, begin, 5))[-1][:3] == "354"
        assert (await idle[0].readline())[:3] == b"220"
        for connection in (committing, stuck):
            submitted = asyncio.Event()
            queue.on_submit = submitted.set
            connection[1].write(b"x\r\n.\r\n")
            await asyncio.wait_for(submitted.wait(), PATIENCE)
        queue.waiting.pop()  # never committed
        stopping = asyncio.ensure_future(stop_listeners([running.listener], running.admission, 0.5))
        assert (await idle[0].readline())[:9] == b"421 4.3.2"
        with pytest.raises(OSError):
            await running.connect()
        queue.commit()
        reply = await committing[0].read()
        assert reply[:9] == b"250 2.0.0" and b"\r\n421 4.3.2" in reply
        assert await stuck[0].read() == b""
        assert await stopping == 1
        await close(idle[1], committing[1], stuck[1])


@on_both_loops
async def test_address_in_use(_: Path) -> None:
    """OSError says which."""
    async with front(make_service()) as running:
        taken = "{}:{}".format(*running.listener.address)
        with pytest.raises(OSError) as caught:
            await Listener(make_service(listener=taken), Admission(1, 1)).start()
        assert caught.value.errno == errno.EADDRINUSE


def test_accept_trouble() -> None:
    """What asyncio tells the loop's exception handler when files run out, and nothing else."""
    trouble = {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "x")}
    assert is_accept_trouble(trouble)
    assert not is_accept_trouble({"message": "socket.accept()", "exception": OSError(errno.EIO, "x")})
    assert not is_accept_trouble({"message": "x", "exception": OSError(errno.EMFILE, "x")})
    assert not is_accept_trouble({})
