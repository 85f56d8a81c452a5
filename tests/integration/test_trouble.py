"""Errors are part of the interface: what the real program says and does when something is wrong."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_root, require_tool

MESSAGE = b"Subject: trouble\r\n\r\nbody\r\n"
SENDER = "app@sender.example"
CANNOT_CREATE, UNAVAILABLE, TEMPORARY, CONFIG = 73, 69, 75, 78


@pytest.fixture
def sink() -> Iterator[RecordingSink]:
    with RecordingSink() as sink:
        yield sink


def via(sink: RecordingSink) -> dict[str, object]:
    return {"routes": [{"name": "all", "via": [f"127.0.0.1:{sink.port}"]}]}


def ended(relay: RelayProcess) -> tuple[int, list[str]]:
    """Exit code and the lines of a relay that must not start."""
    try:
        relay.spawn()
        code = relay.wait()
        return code, [line for line in relay.log().splitlines() if " relay/" not in line]
    finally:
        relay.__exit__()


def hand_in(relay: RelayProcess, recipient: str, message: bytes = MESSAGE) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30) as client:
        client.sendmail(SENDER, [recipient], message)


# --- it does not start


def test_a_wrong_configuration_starts_nothing(tmp_path: Path) -> None:
    """Exit 78, every error with its place, no spool made."""
    relay = RelayProcess(tmp_path, {"limits": {"message_size": "5 apples"}, "retri": {}})
    code, lines = ended(relay)
    assert code == CONFIG
    assert len(lines) == 2
    assert all(line.startswith(f"{relay.file}:") for line in lines)
    assert not relay.spool.exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """One line that names the address; the spool is left clean."""
    port = ReservedPort()
    listening = port.listening()
    listening.listen()
    try:
        relay = RelayProcess(tmp_path, {"listeners": [{"address": f"127.0.0.1:{port.port}"}]})
        code, lines = ended(relay)
    finally:
        listening.close()
        port.close()
    assert code == UNAVAILABLE
    (said,) = lines
    why = "address already in use; choose another address or end who has it"
    assert said.endswith(f"listeners: cannot listen on 127.0.0.1:{port.port}: {why}")
    assert (relay.spool / "clean").exists()


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    """What to do depends on why."""
    code, (said,) = ended(RelayProcess(tmp_path, {"listeners": [{"address": "192.0.2.1:2525"}]}))
    assert code == UNAVAILABLE
    assert said.endswith("192.0.2.1:2525: cannot assign requested address; choose an address of this machine")


def test_a_spool_that_cannot_be(tmp_path: Path) -> None:
    """One line that names it."""
    (tmp_path / "file").write_text("not a directory")
    code, lines = ended(RelayProcess(tmp_path, {"spool": str(tmp_path / "file/spool")}))
    assert code == CANNOT_CREATE
    (said,) = lines
    assert str(tmp_path / "file/spool") in said


def test_a_spool_of_another_format(tmp_path: Path) -> None:
    """Unknown formats are refused, not guessed (promise 10)."""
    with RelayProcess(tmp_path) as relay:
        assert relay.terminate() == 0
    (relay.spool / "format").write_text("mailqueue 99\n")
    code, lines = ended(RelayProcess(tmp_path))
    assert code == CANNOT_CREATE
    (said,) = lines
    assert "99" in said


def test_one_owner(tmp_path: Path) -> None:
    """A second process on the spool says so and ends; the first goes on (promise 10)."""
    with RelayProcess(tmp_path) as first:
        other = tmp_path / "other"
        other.mkdir()
        code, lines = ended(RelayProcess(other, {"spool": str(first.spool)}))
        assert code == TEMPORARY
        (said,) = lines
        assert str(first.pid) in said
        assert first.status("/readyz") == 200


# --- it stops, it reloads


def test_sigterm_lets_a_transaction_past_the_dot_finish(sink: RecordingSink, tmp_path: Path) -> None:
    """Exit 0 in time; what waits for the reply to its dot is delivered once, what came later stays queued."""
    sink.delays["DOT"] = 2.0
    with RelayProcess(tmp_path, via(sink)) as relay:
        hand_in(relay, "slow@example.com")
        relay.wait_until(lambda: b"DATA" in sink.commands, "past the dot")
        relay.send(signal.SIGTERM)
        assert relay.wait(25) == 0, relay.log()
        assert len(sink.messages) == 1
        sink.delays.clear()
        relay.start()
        assert relay.waiting() == 0
        assert relay.metric("relay_possible_duplicates_total") == 0


def test_reload_is_all_or_nothing(sink: RecordingSink, tmp_path: Path) -> None:
    """A wrong file changes nothing; a right one moves what waits to its new next hop."""
    nowhere = ReservedPort()
    old = {"routes": [{"name": "old", "via": [f"127.0.0.1:{nowhere.port}"]}]}
    with RelayProcess(tmp_path, old) as relay:
        hand_in(relay, "moved@example.com")
        relay.configure({"routes": [{"name": "new", "via": 5}]})
        relay.send(signal.SIGHUP)
        relay.wait_until(lambda: relay.metric("relay_config_reloads_total", result="failed") == 1, "refused")
        assert relay.waiting() == 1
        relay.configure({"routes": [{"name": "new", "via": [f"127.0.0.1:{sink.port}"]}]})
        relay.send(signal.SIGHUP)
        (message,) = sink.wait(1)
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
    nowhere.close()
    assert message.recipients == ["moved@example.com"]


# --- the disk is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB."""
    require_root("mounting a small file system")
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(96 * 2**20)
    subprocess.run([require_tool("mkfs.ext4", "e2fsprogs"), "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int) -> None:
    """Leaves so many octets free."""
    free = os.statvfs(place)
    with (place / "filler").open("ab") as file:
        os.posix_fallocate(file.fileno(), file.tell(), free.f_bavail * free.f_frsize - leave)


def refusal(relay: RelayProcess, message: bytes, size: str = "") -> tuple[int, bytes]:
    """What the relay answers to a message it has no room for."""
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=60) as client:
        client.ehlo()
        code, said = client.mail(SENDER, [size] if size else [])
        if code != 250:
            return code, said
        assert client.rcpt("big@example.com")[0] == 250
        return client.data(message)


def test_a_full_disk(sink: RecordingSink, small_disk: Path, tmp_path: Path) -> None:
    """452 4.3.1 at MAIL and in mid-DATA, nothing left behind; the queue drains; then mail comes in again."""
    sink.close()
    with RelayProcess(tmp_path, {**via(sink), "spool": str(small_disk / "spool")}) as relay:
        relay.spool = small_disk / "spool"
        for number in range(50):
            hand_in(relay, f"{number}@example.com")
        fill(small_disk, 12 * 2**20)
        big = b"x" * 76 + b"\r\n"
        code, said = refusal(relay, big * (30 * 2**20 // len(big)))
        assert (code, said[:5]) == (452, b"4.3.1")
        relay.wait_until(lambda: list((relay.spool / "content").iterdir()) == [], "without the rest")
        fill(small_disk, 2**19)
        relay.wait_until(lambda: relay.status("/readyz") == 503, "not ready")
        code, said = refusal(relay, MESSAGE, "size=100")
        assert (code, said[:5]) == (452, b"4.3.1")
        sink.open()
        sink.wait(50, 60)
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
        (small_disk / "filler").unlink()
        relay.wait_until(lambda: relay.status("/readyz") == 200, "ready")
        hand_in(relay, "again@example.com")
        sink.wait(51, 60)
    assert sorted({message.recipients[0] for message in sink.messages}) == sorted(
        {f"{number}@example.com" for number in range(50)} | {"again@example.com"}
    )
    assert len(sink.messages) == 51
