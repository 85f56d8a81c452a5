"""What goes over a wire: a tap between two ends, tcpdump beside them, and the search for a secret in it.

with Tap(server.port) as tap:
    ... tap.port                         # connect here instead
assert b"STARTTLS" in tap.sent
assert leaks(tap.sent, "s3cret") == []   # how the secret shows, if it does
"""

from __future__ import annotations

import asyncio
import base64
import signal
import subprocess
import threading
from pathlib import Path
from typing import Self

from fakes.ports import ReservedPort
from fakes.tools import require_root, require_tool


class Tap:
    """Passes every byte on, in a thread of its own. sent: the bytes of all clients; received: the answers."""

    def __init__(self, port: int) -> None:
        self.sent, self.received = bytearray(), bytearray()
        self.sessions = 0
        self._to = port
        self._reserved = ReservedPort()
        self.port = self._reserved.port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"tap-{self.port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._reserved.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=self._reserved.listening())

    async def _close(self) -> None:
        assert self._server
        self._server.close()
        await self._server.wait_closed()
        for session in self._running:
            session.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        task = asyncio.current_task()
        assert task
        self._running.add(task)
        try:
            await self._join(reader, writer)
        except OSError:
            pass  # one side is gone, so the other goes too
        finally:
            writer.transport.abort()
            self._running.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            await asyncio.gather(_pass(reader, back, self.sent), _pass(there, writer, self.received))
        finally:
            back.transport.abort()


class Dump:
    """tcpdump on the loopback interface, for some ports. octets: what it saw, complete after the end."""

    def __init__(self, directory: Path, *ports: int) -> None:
        require_root("tcpdump reads the interface")
        program = require_tool("tcpdump", "tcpdump")
        self._file = directory / "packets"
        ports_of = " or ".join(f"tcp port {port}" for port in ports)
        self._command = [program, "-i", "lo", "-n", "-s", "0", "-B", "16384", "-Z", "root"]
        self._command += ["-w", str(self._file), ports_of]

    @property
    def octets(self) -> bytes:
        return self._file.read_bytes()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self._process.stderr
        said = self._process.stderr.readline()
        assert b"listening on" in said, said + self._process.stderr.read()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=30)
        assert b"0 packets dropped by kernel" in said, said


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    while chunk := await reader.read(65536):
        seen += chunk
        writer.write(chunk)
        await writer.drain()
    writer.close()


def leaks(seen: bytes | bytearray, secret: str) -> list[str]:
    """The ways in which `seen` holds the secret: as it stands, or in base64 at any place of a longer text."""
    plain = secret.encode()
    ways = {"plain": plain}
    for before in range(3):  # base64 takes 3 octets at a time: what is before shifts the secret's digits
        digits = base64.b64encode(b"\0" * before + plain)
        first, last = -(-before * 8 // 6), (before + len(plain)) * 8 // 6
        ways[f"base64 after {before}"] = digits[first:last]
    return [way for way, octets in ways.items() if octets in seen]
