"""Hostile clients of five kinds, in a process of its own: Crowd.

    python -m faults.crowd PORT TLS_PORT EACH FIRST

EACH connections of every kind are kept up as long as the process lives; who is cut comes again after a
moment. FIRST is an address such as 127.0.0.2: each kind has one of its own from there on; with "many" every
connection has its own, from 127.1.0.0 on. The process ends when its standard input does.

    idle          says nothing
    slow writer   an octet now and then, in a command or in DATA
    slow reader   asks for more and more and never reads
    half a TLS    begins a handshake and leaves it at that
    guesser       tries passwords, as many as it may
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Self

from faults.fork_server import PATH

AGAIN = 0.5  # s until who was cut comes again
SLOW = 1.0  # s between two octets
KINDS = 5
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
ENVELOPE = b"EHLO c\r\nMAIL FROM:<c@c.example>\r\nRCPT TO:<c@c.example>\r\nDATA\r\nSubject: x\r\n\r\n"


class Crowd:
    """with Crowd(port, tls_port, 100): ... 500 connections, 100 of each kind. EOF ends the process."""

    def __init__(self, port: int, tls_port: int, each: int, first: str = "127.0.0.2") -> None:
        self._command = [sys.executable, "-m", "faults.crowd", str(port), str(tls_port), str(each), first]
        self.said = ""  # how often each kind got through, and what became of it

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout and self._process.stdout.readline() == "here\n"
        return self

    def __exit__(self, *exc: object) -> None:
        self.said = self._process.communicate(timeout=30)[0].strip()


class Clients:
    def __init__(self, port: int, tls_port: int, each: int, first: str) -> None:
        self.port, self.tls_port, self.each = port, tls_port, each
        self.first = first
        self.count: Counter[str] = Counter()  # kind and greeting
        self.all_here = asyncio.Event()  # each connection was tried once
        self.places = itertools.count()
        self.kinds: list[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = [
            self.idle, self.slow_writer, self.slow_reader, self.half_a_handshake, self.guesser,
        ]  # fmt: skip

    async def run(self) -> None:
        tasks = [asyncio.create_task(self.keep_on(kind)) for kind in range(KINDS) for _ in range(self.each)]
        async with asyncio.timeout(60):
            await self.all_here.wait()
        print("here", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print(dict(self.count))

    def address(self, kind: int) -> str:
        if self.first == "many":
            place = next(self.places) % 60_000
            return f"127.1.{place // 250}.{place % 250 + 1}"
        network, _, last = self.first.rpartition(".")
        return f"{network}.{int(last) + kind}"

    async def keep_on(self, kind: int) -> None:
        act = self.kinds[kind]
        port = self.tls_port if act == self.half_a_handshake else self.port
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                sock = socket.socket()
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                sock.bind((self.address(kind), 0))
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                reader, writer = await asyncio.open_connection(sock=sock, limit=2048)
                try:
                    if await self.is_greeted(kind, reader):
                        await act(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(AGAIN * (0.5 + random.random()))

    async def is_greeted(self, kind: int, reader: asyncio.StreamReader) -> bool:
        act = self.kinds[kind]
        greeting = b"220" if act == self.half_a_handshake else (await reader.readline())[:3]
        self.count[f"{act.__name__} {greeting.decode() or 'nothing'}"] += 1
        if self.count.total() >= KINDS * self.each:
            self.all_here.set()
        return greeting == b"220"

    async def idle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def slow_writer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ENVELOPE if random.random() < 0.5 else b"EHLO ")
        while not writer.is_closing() and not reader.at_eof():
            writer.write(b"x")
            await asyncio.sleep(SLOW)

    async def slow_reader(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        while True:
            writer.write(b"EHLO client.example\r\n" * 100)
            await writer.drain()

    async def half_a_handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HALF_A_HELLO)
        await reader.read()

    async def guesser(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"EHLO guesser\r\n")
        while (await reader.readuntil(b"\r\n"))[3:4] == b"-":
            pass
        for word in itertools.count():
            secret = base64.b64encode(f"\0app\0guess {word}".encode())
            writer.write(b"AUTH PLAIN " + secret + b"\r\n")
            if not (await reader.readuntil(b"\r\n")).startswith(b"535"):
                return


if __name__ == "__main__":
    _port, _tls_port, _each = map(int, sys.argv[1:4])
    asyncio.run(Clients(_port, _tls_port, _each, sys.argv[4]).run())
