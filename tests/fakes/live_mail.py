"""LiveMail: a client and a next hop beside the load of a test, in a process of their own.

One message after the other on a kept connection, and how long each took: from the final dot to its 250, and
to its arrival at the next hop.

    with LiveMail() as live, RelayProcess(tmp_path, {"routes": [live.route]}) as relay:
        live.send_to(relay.smtp_port)
        ...
        live.taken()   # since the last call
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fakes.ports import ReservedPort

DOMAIN = "live.example"
PAUSE = 0.02  # seconds between a 250 and the next message


@dataclass(frozen=True)
class Taken:
    """Milliseconds, sorted. late: messages that had not arrived yet."""

    accepted: list[float]
    arrived: list[float]
    late: int

    def __str__(self) -> str:
        parts = ", ".join(
            f"{name} p50 {percentile(times, 0.5):.1f} p99 {percentile(times, 0.99):.1f} ms"
            for name, times in (("250", self.accepted), ("arrival", self.arrived))
        )
        return f"{len(self.accepted)} messages, {parts}, {self.late} late"


def percentile(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")


class LiveMail:
    """A context manager. route: to its next hop, for the relay's configuration."""

    def __init__(self) -> None:
        self._port = ReservedPort()
        self.route = {"name": "live", "to": [DOMAIN], "via": [f"127.0.0.1:{self._port.port}"]}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._port.close()

    def send_to(self, port: int) -> None:
        """From now on."""
        command = [sys.executable, "-m", "fakes.live_mail", str(port), str(self._port.port)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        self._process = subprocess.Popen(
            command, text=True, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._read() == "sending"

    def taken(self) -> Taken:
        """What was measured since the last call."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Taken(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Child:
    """The process: a sink and a client in one loop."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.accepted: list[float] = []
        self.arrived: list[float] = []

    async def sink(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes everything; the first line of a message is its number."""
        writer.write(b"220 live.example\r\n")
        while verb := (await reader.readline())[:4].upper():
            if verb == b"DATA":
                writer.write(b"354 go ahead\r\n")
                self.arrive((await reader.readuntil(b"\r\n.\r\n")).partition(b"Number: ")[2])
            writer.write(
                b"250-live.example\r\n250 PIPELINING\r\n" if verb == b"EHLO" else b"250 2.0.0 ok\r\n"
            )
        writer.close()

    def arrive(self, text: bytes) -> None:
        begun = self.sent.pop(int(text.split(b"\r\n")[0]))
        self.arrived.append(1000 * (time.monotonic() - begun))

    async def client(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await expect(reader, b"220")
        print("sending", flush=True)
        for number in range(10**9):
            greeting = b"EHLO client.example\r\n" if not number else b"RSET\r\n"
            for command in (greeting, b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<b@live.example>\r\n"):
                writer.write(command)
                await expect(reader, b"250")
            writer.write(b"DATA\r\n")
            await expect(reader, b"354")
            begun = self.sent[number] = time.monotonic()
            writer.write(b"Number: %d\r\n\r\n%s\r\n.\r\n" % (number, b"x" * 900))
            await expect(reader, b"250")
            self.accepted.append(1000 * (time.monotonic() - begun))
            await asyncio.sleep(PAUSE)

    def report(self) -> None:
        sys.stdin.readline()
        taken = {"accepted": sorted(self.accepted), "arrived": sorted(self.arrived), "late": len(self.sent)}
        self.accepted, self.arrived = [], []
        print(json.dumps(taken), flush=True)

    async def run(self, relay: int, own: int) -> None:
        await asyncio.start_server(self.sink, "127.0.0.1", own)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self.report)
        await self.client(relay)


async def expect(reader: asyncio.StreamReader, code: bytes) -> None:
    """A whole reply with this code. Where the relay is gone there is nothing more to measure."""
    try:
        while (line := await reader.readline())[3:4] == b"-":
            pass
    except ConnectionError:
        line = b""
    if not line:
        os._exit(0)
    assert line.startswith(code), line


if __name__ == "__main__":
    asyncio.run(Child().run(int(sys.argv[1]), int(sys.argv[2])))
