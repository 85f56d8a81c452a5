"""What the service manager is told: with a real datagram socket, by path and by abstract name."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.observe.notify import ALIVE, LONGEST_STATUS, READY, Notifier, status


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """The manager's end; its name is what NOTIFY_SOCKET says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "n") if request.param == "path" else f"\0relay-test-{os.getpid()}")
        receiver.settimeout(10)
        yield receiver


def name(manager: socket.socket) -> str:
    """As systemd writes it into the environment."""
    found = manager.getsockname()
    return f"@{found[1:].decode()}" if isinstance(found, bytes) else str(found)


class Warnings(list[str]):
    """What would go to the log."""


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_it_is_told(manager: socket.socket) -> None:
    """One datagram a call, lines as sd_notify(3) wants them."""
    said = Warnings()
    notifier = Notifier({"NOTIFY_SOCKET": name(manager)}, said.append, lambda: 12.3456789)
    assert notifier.listens and notifier.watchdog is None
    notifier.tell(READY, status("accepting mail"))
    assert told(manager) == ["READY=1", "STATUS=accepting mail"]
    notifier.tell(*notifier.reloading())
    assert told(manager) == ["RELOADING=1", "MONOTONIC_USEC=12345678"]
    notifier.close()
    notifier.tell(READY)
    manager.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
    assert not said


@pytest.mark.parametrize("address", [None, "", "@", "relative", "vsock:2:1234"])
def test_without_a_manager_nothing_is_said(address: str | None) -> None:
    """No socket is opened and nobody is warned; a watchdog alone changes nothing."""
    said = Warnings()
    environ = {"WATCHDOG_USEC": "30000000"} | ({} if address is None else {"NOTIFY_SOCKET": address})
    before = set(Path("/proc/self/fd").iterdir())
    notifier = Notifier(environ, said.append)
    notifier.tell(READY)
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert not notifier.listens and notifier.watchdog is None and not said


@pytest.mark.parametrize(
    ("watchdog", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog(watchdog: dict[str, str], seconds: float | None) -> None:
    """Read as sd_watchdog_enabled(3) does: another process' watchdog is none of ours."""
    assert Notifier({"NOTIFY_SOCKET": "/run/x", **watchdog}, Warnings().append).watchdog == seconds


def fill(client: socket.socket, manager: socket.socket) -> int:
    """Messages of one octet, until the client's buffer or the manager's queue is full; how many."""
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 10_000:
            sent += client.sendto(b"x", manager.getsockname())
    return sent


def test_a_busy_manager_blocks_nobody(manager: socket.socket) -> None:
    """What a full socket does not take goes with a later call, once, with the latest status."""
    said = Warnings()
    notifier = Notifier({"NOTIFY_SOCKET": name(manager)}, said.append)
    with contextlib.ExitStack() as crowd:
        crowded = sent = 0
        for _ in range(100):
            sent = fill(crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)), manager)
            crowded += sent
            if not sent:
                break
        assert not sent, "one more client finds no room"
        notifier.tell(READY, status("first"))
        notifier.tell(ALIVE, status("second"))
        for _ in range(crowded):
            assert told(manager) == ["x"]
    notifier.tell(ALIVE, status("third"))
    assert told(manager) == ["READY=1", "WATCHDOG=1", "STATUS=third"]
    notifier.tell(ALIVE)
    assert told(manager) == ["WATCHDOG=1"]
    notifier.close()
    assert not said


def test_a_manager_that_is_gone_is_told_of_once(tmp_path: Path) -> None:
    """One warning, then silence."""
    said = Warnings()
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, said.append)
    for _ in range(3):
        notifier.tell(ALIVE)
    (text,) = said
    assert "NOTIFY_SOCKET" in text and "No such file" in text


def test_a_status_is_one_line() -> None:
    """A line end in it would be another assignment."""
    assert status("a\nREADY=1") == "STATUS=a\\nREADY=1"
    assert len(status("x" * 9999)) == LONGEST_STATUS + len("STATUS=")
