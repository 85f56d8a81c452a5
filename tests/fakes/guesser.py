"""Somebody who guesses passwords: `python -m fakes.guesser PORT TRIES HOSTS` in a process of its own.

Half of it is a flood from 127.0.0.2 over connections in parallel, until TRIES tries were answered or turned
away; the other half tries from HOSTS further loopback addresses, one connection each, three tries a
connection, as long as the flood lasts. Prints how many tries there were.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import sys

PARALLEL = 90  # connections of the flood
FLOOD = "127.0.0.2"


class Guesser:
    def __init__(self, port: int, tries: int) -> None:
        self.port = port
        self.left = tries
        self.words = itertools.count()
        self.replies: dict[str, int] = {}

    async def connection(self, address: str) -> None:
        """As many tries as the server allows on one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        try:
            opening = b"EHLO guesser\r\n"
            while self.left > 0:
                word = base64.b64encode(f"\0app\0guess {next(self.words)}".encode())
                writer.write(opening + b"AUTH PLAIN " + word + b"\r\n")
                opening = b""
                line = await reader.readline()
                while line.startswith((b"220", b"250")):
                    line = await reader.readline()
                reply = line[:3].decode()
                self.replies[reply] = self.replies.get(reply, 0) + 1
                self.left -= bool(reply)  # without one the connection was turned away
                if reply != "535":
                    return
        finally:
            writer.transport.abort()

    async def keep_on(self, address: str) -> None:
        while self.left > 0:
            with contextlib.suppress(OSError):
                await self.connection(address)

    async def run(self, hosts: int) -> None:
        flood = [asyncio.create_task(self.keep_on(FLOOD)) for _ in range(PARALLEL)]
        others = [asyncio.create_task(self.keep_on(f"127.0.1.{number + 1}")) for number in range(hosts)]
        await asyncio.wait([*flood], return_when=asyncio.FIRST_COMPLETED)
        for task in (*flood, *others):
            task.cancel()
        await asyncio.gather(*flood, *others, return_exceptions=True)
        print(sum(self.replies.values()), self.replies)


if __name__ == "__main__":
    _port, _tries, _hosts = map(int, sys.argv[1:])
    asyncio.run(Guesser(_port, _tries).run(_hosts))
