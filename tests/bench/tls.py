"""Throughput over TLS in and out, beside Postfix over TLS: pairs of runs in turns, a ratio from each pair.

    make bench                              # five pairs of 5,000 messages of 1 KB over 20 kept connections
    make bench ARGS="--pairs 1 --messages 500"

smtp-source -> haproxy (adds TLS) -> the relay, implicit TLS in, smtps out -> haproxy (takes it away) ->
smtp-sink. In every other run Postfix stands in the relay's place, in wrapper mode both ways, with its TLS
connections reused, up to 50 of them, and without a log: as fast as it is known to be. Both sync before 250.
CPU is user and system time of the relay's process, and of all of Postfix. Needs root and the Debian packages
postfix and haproxy.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.certificates import authority
from fakes.ports import ReservedPort
from fakes.postfix import Postfix
from fakes.relay_process import RelayProcess
from fakes.tools import require_tool

SESSIONS, SIZE, WARM_UP = 20, 1024, 400
PATIENCE = 300.0  # seconds for one run
TICK = os.sysconf("SC_CLK_TCK")
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


@dataclass(frozen=True)
class Run:
    """rate: messages a second until the last is at the sink; cpu: ms a message; tls: how it was spoken."""

    rate: float
    cpu: float
    tls: frozenset[str]


Server = Callable[["Ports", Path, Path], AbstractContextManager[Callable[[], float]]]


class Ports:
    """source: for smtp-source; relay: of the server measured; hop: of its next hop; sink: behind that."""

    def __init__(self, stack: ExitStack) -> None:
        reserved = [ReservedPort() for _ in range(4)]
        for each in reserved:
            stack.callback(each.close)
        self.source, self.relay, self.hop, self.sink = (each.port for each in reserved)


class PostfixOverTls(Postfix):
    """Implicit TLS in, smtps out."""

    def __init__(self, ports: Ports, certificate: Path) -> None:
        super().__init__()
        self._reserved.close()
        self.port, self._hop, self._certificate = ports.relay, ports.hop, certificate

    def _configure(self) -> None:
        super()._configure()
        path = self.conf / "master.cf"
        text = path.read_text().replace("100 smtpd\n", "100 smtpd -o smtpd_tls_wrappermode=yes\n")
        text = re.sub(r"^smtp unix - - n - - smtp$", "smtp unix - - n - 50 smtp", text, flags=re.M)
        path.write_text(text + "tlsproxy unix - - n - 0 tlsproxy\n")

    def _main(self) -> dict[str, str]:
        hop = f"[127.0.0.1]:{self._hop}"
        limits = ("client_connection_rate", "client_message_rate", "client_recipient_rate")
        return super()._main() | {f"smtpd_{name}_limit": "0" for name in limits} | {
            "maillog_file": "", "relayhost": hop, "default_transport": "smtp",
            "smtpd_relay_restrictions": "permit_mynetworks, reject", "default_process_limit": "100",
            "smtpd_client_event_limit_exceptions": "static:all",
            "default_destination_concurrency_limit": "50", "initial_destination_concurrency": "50",
            "smtp_connection_cache_destinations": hop, "qmgr_message_active_limit": "50000",
            "smtpd_tls_security_level": "encrypt", "smtpd_tls_chain_files": str(self._certificate),
            "smtp_tls_security_level": "encrypt", "smtp_tls_wrappermode": "yes",
            "smtp_tls_connection_reuse": "yes",
        }  # fmt: skip

    def _greets(self) -> bool:
        return self.master is not None


@contextmanager
def our_relay(ports: Ports, certificate: Path, directory: Path) -> Iterator[Callable[[], float]]:
    """Gives what tells its CPU seconds."""
    relay = RelayProcess(directory)
    relay.configure({
        "listeners": [
            {"address": f"127.0.0.1:{relay.smtp_port}"},
            {"address": f"127.0.0.1:{ports.relay}", "tls": "implicit"},
        ],
        "tls": {"certificate": str(certificate), "key": str(certificate)},
        "routes": [{"name": "hop", "via": [f"smtps://127.0.0.1:{ports.hop}"], "tls": "require"}],
    })  # fmt: skip
    with relay:
        yield lambda: spent(relay.pid)


@contextmanager
def postfix(ports: Ports, certificate: Path, directory: Path) -> Iterator[Callable[[], float]]:
    """The same of all its processes, those that have ended too."""
    with PostfixOverTls(ports, certificate) as server:
        master = server.master
        assert master
        yield lambda: spent(master, dead=True) + sum(spent(child) for child in children(master))


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def spent(pid: int, *, dead: bool = False) -> float:
    """CPU seconds of a process, 0 when it has just ended; dead: with those of its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(field) for field in fields[11 : 15 if dead else 13]) / TICK


class Sink:
    """smtp-sink, which says how many messages it has."""

    def __init__(self, port: int) -> None:
        program = require_tool("smtp-sink", "postfix")
        command = [program, "-c", "-u", "nobody", f"127.0.0.1:{port}", "200"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout
        os.set_blocking(self._process.stdout.fileno(), False)
        self._said = b""

    def count(self) -> int:
        assert self._process.stdout
        self._said = (self._said + (self._process.stdout.read() or b""))[-400:]
        found = re.findall(rb"mesg=(\d+)\r", self._said)
        return int(found[-1]) if found else 0

    def wait(self, count: int) -> None:
        """Until it has so many; TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while self.count() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count()} of {count} messages after {PATIENCE:g} s")
            time.sleep(0.005)

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)


@contextmanager
def proxies(ports: Ports, certificate: Path, directory: Path) -> Iterator[Path]:
    """haproxy on both sides; gives the file it writes a line to for each connection that has ended."""
    program = require_tool("haproxy", "haproxy")
    text = PROXIES.format(
        source=ports.source, relay=ports.relay, hop=ports.hop, sink=ports.sink,
        ca=authority().write(directory), certificate=certificate,
    )  # fmt: skip
    (directory / "haproxy.cfg").write_text(text)
    log = directory / "haproxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-db", "-f", str(directory / "haproxy.cfg")], stdout=output)
        try:
            yield log
        finally:
            process.kill()
            process.wait(10)


def load(port: int, messages: int) -> None:
    command = [
        require_tool("smtp-source", "postfix"), "-s", str(SESSIONS), "-m", str(messages), "-l", str(SIZE),
        "-d", "-f", "app@sender.example", "-t", "user@example.com", f"127.0.0.1:{port}",
    ]  # fmt: skip
    subprocess.run(command, timeout=PATIENCE, check=True)


def measure(server: Server, messages: int) -> Run:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        ports = Ports(stack)
        pair = authority().issue("127.0.0.1")
        certificate = directory / "pair.pem"
        certificate.write_bytes(pair.key + pair.certificate)
        sink = Sink(ports.sink)
        stack.callback(sink.end)
        log = stack.enter_context(proxies(ports, certificate, directory))
        with server(ports, certificate, directory) as cpu:
            load(ports.source, WARM_UP)
            sink.wait(WARM_UP)
            begun, before = time.monotonic(), cpu()
            load(ports.source, messages)
            sink.wait(WARM_UP + messages)
            seconds, used = time.monotonic() - begun, cpu() - before
        return Run(messages / seconds, used / messages * 1000, spoken(log))


def spoken(log: Path) -> frozenset[str]:
    """How TLS was spoken each way: haproxy says so when a connection has ended, as all have by now."""
    deadline = time.monotonic() + 10
    while (lines := told(log)) and time.monotonic() < deadline:
        if {line.split()[0] for line in lines} == {"in", "out"}:
            break
        time.sleep(0.01)
    return lines


def told(log: Path) -> frozenset[str]:
    """What it says of TLS that was spoken; an opening that the relay gives up when it stops is none."""
    return frozenset(line for line in log.read_text().splitlines() if line.startswith(("in ", "out ")))


def pair(number: int, messages: int) -> tuple[Run, Run]:
    """One run of each, the order turned round every time; printed as it ends."""
    order: list[tuple[str, Server]] = [("relay", our_relay), ("postfix", postfix)]
    runs: dict[str, Run] = {}
    for name, server in order if number % 2 else reversed(order):
        run = runs[name] = measure(server, messages)
        print(f"{number:4}  {name:8} {run.rate:8.0f}/s {run.cpu:7.3f} ms CPU a message", flush=True)
    return runs["relay"], runs["postfix"]


def report(pairs: Sequence[tuple[Run, Run]]) -> Iterator[str]:
    """Medians over the pairs."""
    rates = [ours.rate / theirs.rate for ours, theirs in pairs]
    costs = [theirs.cpu / ours.cpu for ours, theirs in pairs]
    yield f"messages a second: {middle(rates)} times Postfix"
    yield f"CPU a message: 1/{middle(costs)} of Postfix"
    for name, column in (("relay", 0), ("postfix", 1)):
        spoken = sorted(frozenset.union(*(pair[column].tls for pair in pairs)))
        yield f"{name}: {'; '.join(spoken)}"


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=5000)
    args = parser.parse_args()
    try:
        pairs = [pair(number, args.messages) for number in range(1, args.pairs + 1)]
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        print(missing, file=sys.stderr)
        return os.EX_UNAVAILABLE
    print("\n".join(report(pairs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
