"""A real load balancer in front of a relay: HAProxy, passing on TCP with a PROXY header."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fakes.ports import ReservedPort
from fakes.tools import require_tool

HEAD = """\
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
"""
PROXY = (
    "listen {name}\n  bind 127.0.0.1:{port}\n  server relay 127.0.0.1:{server} {options} check inter 200ms\n"
)


@contextmanager
def haproxy(folder: Path, servers: Mapping[str, tuple[int, str]]) -> Iterator[dict[str, int]]:
    """servers: name -> port behind it, and options as send-proxy-v2. Gives name -> port in front. It also
    looks five times a second whether the servers live."""
    program = require_tool("haproxy", "haproxy")
    reserved = {name: ReservedPort() for name in servers}
    parts = [
        PROXY.format(name=name, port=reserved[name].port, server=port, options=options)
        for name, (port, options) in servers.items()
    ]
    (folder / "haproxy.cfg").write_text(HEAD + "".join(parts))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-db", "-f", str(folder / "haproxy.cfg")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        for each in reserved.values():
            _wait(process, each.port, folder / "haproxy.log")
        yield {name: each.port for name, each in reserved.items()}
    finally:
        process.terminate()
        process.wait(10)
        for each in reserved.values():
            each.close()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError(f"haproxy does not listen: {log.read_text()}")
