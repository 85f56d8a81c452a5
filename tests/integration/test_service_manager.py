"""The real process under a service manager: what it says from its start to its end, on a datagram socket."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.relay_process import RelayProcess


class Manager:
    """The socket of NOTIFY_SOCKET; wait_for reads datagrams as they come and keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def wait_for(self, wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """The next datagram that fits; AssertionError after 20 s or 1000 others."""
        deadline = time.monotonic() + 20
        for _ in range(1000):
            assert time.monotonic() < deadline, self.said[-5:]
            lines = self._socket.recv(4096).decode().splitlines()
            self.said.append(dict(line.split("=", 1) for line in lines))
            if wanted(self.said[-1]):
                return self.said[-1]
        raise AssertionError(self.said[-5:])

    def wait_key(self, key: str) -> dict[str, str]:
        return self.wait_for(lambda said: key in said)

    def everything(self) -> list[dict[str, str]]:
        """All that was ever said, by a process that has ended."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.wait_for(lambda said: False)
        return self.said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_from_start_to_end(manager: Manager, tmp_path: Path) -> None:
    """READY when mail is accepted, signs of life all along, RELOADING to READY around each reload (also one
    that fails), STOPPING at the end."""
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"}
    with RelayProcess(tmp_path, environment=environment) as relay:
        assert manager.wait_key("READY")
        assert [said.get("STATUS") for said in manager.said[:-1]] == ["opening the spool"]
        with socket.create_connection(("127.0.0.1", relay.smtp_port), 10) as client:
            assert client.recv(100).startswith(b"220")
        for _ in range(3):
            assert manager.wait_key("WATCHDOG")
        status = manager.said[-1]["STATUS"]
        assert status == f"accepting mail on 127.0.0.1:{relay.smtp_port}; nothing queued"

        relay.send(signal.SIGHUP)
        said = manager.wait_key("RELOADING")
        assert 0 <= time.monotonic() - int(said["MONOTONIC_USEC"]) / 1e6 < 20
        assert manager.wait_key("READY")

        relay.file.write_text("spool: [nonsense\n")
        relay.send(signal.SIGHUP)
        assert manager.wait_key("RELOADING") and manager.wait_key("READY")
        assert "the last reload failed" in manager.wait_key("STATUS")["STATUS"]

        relay.send(signal.SIGTERM)
        assert manager.wait_key("STOPPING")
        assert relay.wait() == 0


def test_nothing_is_ready_when_the_start_fails(manager: Manager, tmp_path: Path) -> None:
    """A spool that another process owns: no READY is ever said."""
    with RelayProcess(tmp_path) as first:
        (tmp_path / "second").mkdir()
        second = RelayProcess(
            tmp_path / "second", {"spool": str(first.spool)}, environment={"NOTIFY_SOCKET": str(manager.path)}
        )
        with contextlib.ExitStack() as stack:
            stack.push(lambda *_: second.__exit__())
            second.spawn()
            assert second.wait() == 75
    assert manager.everything() == [{"STATUS": "opening the spool"}]


def test_health_says_what_readyz_says(tmp_path: Path) -> None:
    """`relay health`: 0 when ready; 1 with the reason when not, and when nobody or somebody else answers."""
    with RelayProcess(tmp_path) as relay:
        done = relay.command("health")
        assert (done.returncode, done.stdout) == (0, "ready\n")
        relay.terminate()
        done = relay.command("health")
        assert done.returncode == 1 and "the relay does not run; start it" in done.stderr
        relay.configure({"limits": {"spool_reserve": "1024TiB"}})
        relay.spawn()
        relay.wait_until(lambda: relay.status("/readyz") == 503, "not ready")
        done = relay.command("health")
        assert done.returncode == 1 and "too little free space" in done.stderr
