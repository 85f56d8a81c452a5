"""A plain SMTP client that knows when it sent the final dot and when it got 250; in bulk, a load.

Standard library only: this file is also the program that makes the load where smtp-source is missing.
"""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

PATIENCE = 60.0  # s for one reply
LINE = b"X" * 70 + b"\r\n"


@dataclass(frozen=True)
class Timed:
    """When the final dot went out and when 250 was there (s, monotonic)."""

    dot: float
    answered: float


class Client:
    """One connection, past EHLO. An answer that was not hoped for: ConnectionError."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._hear(b"2")
        self.say(b"EHLO client.example\r\n", b"2")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def send(self, numbers: range, content: bytes) -> Timed:
        """One message to numbered recipients; content ends with the final dot."""
        self.say(b"MAIL FROM:<app@client.example>\r\n", b"2")
        for number in numbers:
            self.say(b"RCPT TO:<%d@example.com>\r\n" % number, b"2")
        self.say(b"DATA\r\n", b"3")
        dot = time.monotonic()
        self.say(content, b"2")
        return Timed(dot, time.monotonic())

    def say(self, line: bytes, hoped: bytes) -> None:
        self._socket.sendall(line)
        self._hear(hoped)

    def _hear(self, hoped: bytes) -> None:
        """A whole reply: its last line has no hyphen (RFC 5321 4.2.1)."""
        while True:
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionError("the server has closed the connection")
                self._buffer += data
                continue
            self._buffer = rest
            if line[3:4] != b"-":
                if not line.startswith(hoped):
                    raise ConnectionError(f"the server says {line.decode(errors='replace')}")
                return


def content(size: int) -> bytes:
    """A message with about so many octets of body, and the final dot."""
    head = b"From: <app@client.example>\r\nTo: <user@example.com>\r\nSubject: a message\r\n"
    date = b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@client.example>\r\n\r\n"
    return head + date + LINE * max(1, size // len(LINE)) + b".\r\n"


def bulk(port: int, messages: int, size: int, sessions: int, recipients: int, kept: bool) -> None:
    """The messages over so many connections at a time; trouble is raised."""
    text = content(size)

    def session(first: int) -> None:
        mine = [range(n * recipients + 1, (n + 1) * recipients + 1) for n in range(first, messages, sessions)]
        for some in [mine] if kept else [[each] for each in mine]:
            with Client(port) as client:
                for each in some:
                    client.send(each, text)
                client.say(b"QUIT\r\n", b"2")

    with ThreadPoolExecutor(sessions) as pool:
        list(pool.map(session, range(min(sessions, messages))))


if __name__ == "__main__":
    port, messages, size, sessions, recipients = map(int, sys.argv[1:6])
    bulk(port, messages, size, sessions, recipients, sys.argv[6] == "True")
