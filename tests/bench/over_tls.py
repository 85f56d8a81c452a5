"""TLS on both sides of a server: haproxy adds it to the load and takes it away before the sink.

smtp-source -> haproxy -> the server, implicit TLS in, smtps out -> haproxy -> the sink.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.programs import found
from fakes.certificates import authority
from fakes.ports import ReservedPort

PROXIES = """\
global
  nbthread 1
  log stdout format raw local0
defaults
  mode tcp
  log global
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen in
  bind 127.0.0.1:{source}
  log-format "in %[ssl_bc_protocol] %[ssl_bc_cipher]"
  server relay 127.0.0.1:{relay} ssl verify required ca-file {ca}
listen out
  bind 127.0.0.1:{hop} ssl crt {certificate}
  log-format "out %sslv %sslc"
  server sink 127.0.0.1:{sink}
"""


class Tunnel:
    """source: the port for the load; hop: where the server sends to; certificate: with its key, for both."""

    def __init__(self, stack: ExitStack, directory: Path, sink: int) -> None:
        first, second = ReservedPort(), ReservedPort()
        stack.callback(first.close)
        stack.callback(second.close)
        self.source, self.hop = first.port, second.port
        pair = authority().issue("127.0.0.1")
        self.certificate = directory / "pair.pem"
        self.certificate.write_bytes(pair.key + pair.certificate)
        self._stack, self._directory, self._sink = stack, directory, sink
        self._log = directory / "haproxy.log"

    def open(self, server: int) -> None:
        """From now on both ways lead through haproxy, to a server on this port."""
        text = PROXIES.format(
            source=self.source, relay=server, hop=self.hop, sink=self._sink,
            ca=authority().write(self._directory), certificate=self.certificate,
        )  # fmt: skip
        file = self._directory / "haproxy.cfg"
        file.write_text(text)
        with self._log.open("wb") as output:
            process = subprocess.Popen(
                [found("haproxy"), "-db", "-f", str(file)], stdout=output, process_group=0
            )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        self._await()

    def _await(self) -> None:
        """Until it listens at the second of its ports; TimeoutError."""
        deadline = time.monotonic() + 10
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.hop), 5).close()
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise TimeoutError("haproxy does not listen") from None
                time.sleep(0.01)

    def version(self) -> float:
        """The oldest TLS that was spoken on either side, such as 1.3: known when connections have ended."""
        deadline, lines = time.monotonic() + 10, self._told()
        while {line.split()[0] for line in lines} != {"in", "out"}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"TLS was not spoken on both sides: {sorted(lines)}")
            time.sleep(0.01)
            lines = self._told()
        return min(float(line.split()[1].removeprefix("TLSv")) for line in lines)

    def _told(self) -> set[str]:
        """An opening that a server gives up when it stops is none."""
        lines = self._log.read_text().splitlines()
        return {line for line in lines if line.startswith(("in TLSv", "out TLSv"))}


@contextmanager
def tunnel(sink: int) -> Iterator[Tunnel]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        yield Tunnel(stack, directory, sink)
