"""A real authoritative DNS server (NSD) on a loopback port, serving one zone."""

from __future__ import annotations

import getpass
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
from fakes.tools import require_tool

HEAD = (
    "$ORIGIN {origin}.\n$TTL 300\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"
)
CONFIGURATION = """\
server:
  username: "{user}"
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/pid"
  xfrdfile: "{folder}/xfrd"
  zonelistfile: "{folder}/list"
  xfrdir: "{folder}"
  ip-address: 127.0.0.1@{port}
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: "{origin}"
  zonefile: "zone"
"""


@contextmanager
def nsd(folder: Path, origin: str, records: str) -> Iterator[str]:
    """folder: an empty one; records: lines of a zone file below `origin`. Gives "127.0.0.1:PORT"."""
    program, port = require_tool("nsd", "nsd"), free_port()
    folder.mkdir(exist_ok=True)
    (folder / "zone").write_text(HEAD.format(origin=origin) + records)
    text = CONFIGURATION.format(user=getpass.getuser(), folder=folder, port=port, origin=origin)
    (folder / "nsd.conf").write_text(text)
    with dns_server([program, "-d", "-c", str(folder / "nsd.conf")], port, origin, folder / "log") as address:
        yield address


def free_port() -> int:
    """A loopback port that was free for UDP and TCP a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", port))
        return port


@contextmanager
def dns_server(command: list[str], port: int, name: str, log: Path) -> Iterator[str]:
    """Runs until the block ends; it answers for `name` when the block begins."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        for _ in range(100):
            if process.poll() is not None or _answers(port, name):
                break
        assert process.poll() is None and _answers(port, name), log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int, name: str) -> bool:
    try:
        dns.query.udp(dns.message.make_query(name, "SOA"), "127.0.0.1", 0.2, port)
    except (dns.exception.Timeout, OSError):
        return False
    return True
