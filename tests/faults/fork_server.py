"""Relays in a moment: a process that has imported everything and forks one for each start.

    python -m faults.fork_server      # requests on standard input, answers on standard output

A campaign starts thousands of relays, and a start is imports for the most part. The child is the relay as
`python -m MODULE run -c FILE` would have it: its own environment, directory and log. A child that is asked
for as stopped waits for SIGCONT before its first step, so that strace can be put on it. A library that is to
be preloaded must be in the environment of the server.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from fakes.relay_process import ROOT, RelayProcess

PRELOADED = ("relay.app", "relay.cli.main", "relay.cli.run", "uvloop", "sqlite3")
PATH = {"PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}:{ROOT / 'tests'}"}


class Forked:
    """One child of the server: what RelayProcess needs of a subprocess.Popen."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._server = server

    def poll(self) -> int | None:
        self._server.listen(0)
        return self._server.ended.get(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (3600.0 if timeout is None else timeout)
        while (code := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("relay", timeout or 0.0)
            self._server.listen(left)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # ended, and its server has not said so yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The campaigns' end of it; close() ends it, its children die with it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.ended: dict[int, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.fork_server"],
            env={**os.environ, **PATH, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @staticmethod
    @cache
    def shared() -> ForkServer:
        """The one of all campaigns, until this process ends."""
        server = ForkServer()
        atexit.register(server.close)
        return server

    def fork(self, request: Mapping[str, Any]) -> Forked:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while True:
            if pid := self._read(60.0).get("forked"):
                self.ended.pop(pid, None)  # of one that had this number before
                return Forked(self, pid)

    def listen(self, seconds: float) -> None:
        """Takes in what the server says within that time."""
        self._read(seconds)

    def _read(self, seconds: float) -> dict[str, int]:
        stream = self._process.stdout
        assert stream
        if not select.select([stream], [], [], seconds)[0]:
            return {}
        line = _line(stream.fileno())
        assert line, "the fork server is dead"
        said: dict[str, int] = json.loads(line)
        if "ended" in said:
            self.ended[said["ended"]] = said["code"]
        return said

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def _line(descriptor: int) -> bytes:
    """Unbuffered, so that select() knows all that has come."""
    line = b""
    while not line.endswith(b"\n"):
        octet = os.read(descriptor, 1)
        if not octet:
            return b""
        line += octet
    return line


class ForkedRelay(RelayProcess):
    """A RelayProcess whose processes come from a server."""

    def __init__(self, server: ForkServer, *args: Any, **more: Any) -> None:
        self._server = server
        self.alone = False  # a process like any other, of this one
        super().__init__(*args, **more)

    def spawn(self, prefix: Sequence[str] = (), *, stopped: bool = False) -> None:
        """stopped: it waits for SIGCONT. With a prefix it is a process like any other."""
        if prefix or self.alone:
            super().spawn(prefix)
            return
        assert not self.running
        request = {
            "module": self._module,
            "arguments": ["run", "-c", str(self.file)],
            "directory": str(self.directory),
            "environment": self._environment,
            "stopped": stopped,
        }
        self._process = self._server.fork(request)
        if stopped:
            stat = Path(f"/proc/{self.pid}/stat")
            self.wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] in "Tt", "stopped")


# --- the server


def main() -> None:
    for name in PRELOADED:
        import_module(name)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: set[int] = set()
    while True:
        ready = select.select([0, awake], [], [])[0]
        if awake in ready:
            os.read(awake, 4096)
            reap(children)
        if 0 in ready:
            line = _line(0)
            if not line:
                break
            children.add(fork(json.loads(line), (awake, wake)))
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def reap(children: set[int]) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            children.discard(pid)
            say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def fork(request: Mapping[str, Any], own: Sequence[int]) -> int:
    pid = os.fork()
    if not pid:
        become(request, own)
    say({"forked": pid})
    return pid


def become(request: Mapping[str, Any], own: Sequence[int]) -> NoReturn:
    """In the child."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in own:
            os.close(descriptor)
        os.chdir(request["directory"])
        log = os.open(Path("relay.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(log)
        os.close(null)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[1:] = request["arguments"]
        if request["stopped"]:
            os.kill(os.getpid(), signal.SIGSTOP)
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def say(what: Mapping[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
