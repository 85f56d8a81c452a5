"""The real relay as a process of its own: `python -m relay run -c FILE` on a temporary spool and free ports.

    with RelayProcess(tmp_path, {"routes": [{"via": [f"127.0.0.1:{sink.port}"]}]}) as relay:
        relay.smtp_port ... relay.metric("relay_queue_messages", state="incoming")
        relay.kill9()
        relay.start()

It is ready when the listener greets and /readyz says 200; nothing sleeps for a fixed time. What it printed
stands in `relay.log()`. It is ended by its pid, always.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import yaml
from fakes.ports import ReservedPort
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.01  # seconds between two looks


class Process(Protocol):
    """What is needed of a subprocess.Popen."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


class RelayProcess:
    """One spool, one configuration file, at most one process at a time.

    config: merged into a loopback default, section by section; `listeners` and `admin` are set here.
    module: what `python -m` runs instead of the relay. own_session: as a service has one.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        patience: float = 20.0,
        module: str = "relay",
        own_session: bool = False,
    ) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.file = directory / "relay.yaml"
        self.patience = patience
        self._smtp, self._admin = ReservedPort(), ReservedPort()
        self.smtp_port, self.admin_port = self._smtp.port, self._admin.port
        self._environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}", **(environment or {})}
        self._process: Process | None = None
        self._module, self._own_session = module, own_session
        self.configure(config or {})

    def configure(self, config: Mapping[str, Any]) -> None:
        """Writes the file anew (a running process reads it at SIGHUP)."""
        default = {
            "hostname": "relay.example",
            "spool": str(self.spool),
            "allow_volatile_spool": True,  # /tmp may be in memory
            "listeners": [{"address": f"127.0.0.1:{self.smtp_port}"}],
            "admin": {"address": f"127.0.0.1:{self.admin_port}"},
            "delivery": {"allow_networks": ["127.0.0.0/8", "::1"]},
            "limits": {"spool_reserve": "1MiB"},
        }
        complete = merged(default, config)
        self.spool = Path(complete["spool"])
        self.file.write_text(yaml.safe_dump(complete, sort_keys=False))

    # --- life and death

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.running:
            self.kill9()
        self._smtp.close()
        self._admin.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def spawn(self, prefix: Sequence[str] = ()) -> None:
        """Starts it and does not wait. prefix: a program to run it under, such as strace."""
        assert not self.running
        command = [*prefix, sys.executable, "-m", self._module, "run", "-c", str(self.file)]
        with (self.directory / "relay.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=self._own_session,
            )

    def start(self, prefix: Sequence[str] = ()) -> float:
        """Starts it and waits until it is ready; returns the seconds that took."""
        begun = time.monotonic()
        self.spawn(prefix)
        self.wait_until(self.ready, "ready")
        return time.monotonic() - begun

    def kill9(self) -> None:
        """No farewell: what is not on disk is lost."""
        self._end(signal.SIGKILL)

    def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM, seconds)

    def restart(self) -> float:
        """SIGTERM and start again on the same spool."""
        assert self.terminate() == 0, self.log()
        return self.start()

    def send(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        """The exit code of a process that ends by itself; AssertionError (and SIGKILL) when it does not."""
        assert self._process
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            raise AssertionError(f"still running after {seconds} s:\n{self.log()}") from None

    def _end(self, number: signal.Signals, seconds: float = 30.0) -> int:
        self.send(number)
        return self.wait(seconds)

    # --- looking

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float | None = None) -> None:
        """Looks until condition() is true; AssertionError when the process ends or patience does."""
        assert self._process
        deadline = time.monotonic() + (seconds or self.patience)
        while not condition():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(POLL)
                raise AssertionError(f"ended with {code} before it was {what}:\n{self.log()}")
            assert time.monotonic() < deadline, f"not {what} in time:\n{self.log()}"

    def ready(self) -> bool:
        """The listener greets and /readyz says yes."""
        return self._greets() and self.status("/readyz") == 200

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.smtp_port), 5) as connection:
                return connection.recv(512).startswith(b"220")
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """One HTTP request to the admin side: status and body; status 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            connection.request("GET", path)
            with contextlib.closing(connection.getresponse()) as response:  # it may own the socket
                return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def status(self, path: str) -> int:
        return self.get(path)[0]

    def metrics(self) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """/metrics as sample name -> labels -> value."""
        found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that carry these labels; KeyError when there is no such name."""
        wanted = set(labels.items())
        return sum(value for present, value in self.metrics()[name].items() if wanted <= present)

    def waiting(self) -> float:
        """Entries in the queue, held and quarantined ones too."""
        return self.metric("relay_queue_messages")

    def resident(self) -> int:
        """Octets of memory in use."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def log(self) -> str:
        path = self.directory / "relay.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self, *arguments: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """`relay ARGUMENTS -c FILE`, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments, "-c", str(self.file)],
            cwd=self.directory, env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, for a command whose output is read as it comes."""
        return subprocess.Popen(
            [sys.executable, "-m", "relay", *arguments, "-c", str(self.file)],
            cwd=self.directory, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """`relay queue list --json`, one dictionary a line."""
        result = self.command("queue", "list", "--json", *arguments)
        assert result.returncode == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]


def merged(default: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Sections are merged key by key, everything else is replaced."""
    both = dict(default)
    for key, value in config.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return both
