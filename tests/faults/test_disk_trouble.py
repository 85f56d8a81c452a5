"""Campaign 5: a disk that is slow, read-only or dead, and a process that may open or write no more.

Promises 1, 2 and 7. What single system calls do when they fail: test_failing_calls.py.
"""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from faults.by_hand import Hand
from faults.campaign import Campaign
from faults.client import Client, Gone
from faults.disk import FILE_SYSTEMS, Disk
from faults.letter import LARGE
from faults.sizes import is_full, rounds
from faults.strace import strace
from faults.traced import attached, tasks, telling

SLOW, FULL_SLOW = 2, 10  # s for a sync
SOME = 0.5  # s
QUICK = 1.0  # s in which a relay must answer that waits for nothing
CANNOT_CREATE, IO_ERROR = 73, 74  # exit codes (sysexits.h)
TROUBLE, FULL = "451 4.3.0 ", "452 4.3.1 "


def test_a_slow_sync_stops_nobody_else(tmp_path: Path) -> None:
    """While a letter waits for its sync, other sessions and /healthz answer; then it gets its 250."""
    seconds = rounds(SLOW, FULL_SLOW)
    with telling(tmp_path) as campaign:
        relay, hand = campaign.relay, Hand(campaign)
        command = strace(
            tmp_path / "trace", ["fdatasync"], "-e", f"inject=fdatasync:delay_enter={seconds * 1_000_000}",
            "-P", str(relay.spool / "queue.db-wal"),
        )  # fmt: skip
        codes: list[int] = []
        with attached(relay, command, *tasks(relay.pid)):
            began = time.monotonic()
            waiting = Thread(target=lambda: codes.extend(hand.send(1)))
            waiting.start()
            longest, answered = 0.0, 0
            while waiting.is_alive() and time.monotonic() < began + 3 * seconds:
                longest = max(longest, took(lambda: a_session(relay.smtp_port)))
                longest = max(longest, took(lambda: expect(relay.status("/healthz"), 200)))
                answered += waiting.is_alive()  # else it may have been after the sync
                time.sleep(0.05)  # between two looks
            waiting.join(60)
            waited = time.monotonic() - began
        relay.kill9()
        campaign.restart("slow sync")
        findings = campaign.finish(30)
    print(f"a sync of {seconds} s: {answered} others were answered in {longest * 1000:.0f} ms at most")
    assert codes == [250]
    assert waited >= seconds
    assert answered > 1
    assert longest < QUICK or not is_full()  # a busy machine is slow, too
    assert findings.clean, str(findings)


def took(what: Callable[[], None]) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began


def expect(said: int, wanted: int) -> None:
    assert said == wanted


def a_session(port: int) -> None:
    """Greeting, EHLO, and a transaction up to the 354."""
    with closing(Client(port)) as client, socket.create_connection(("127.0.0.1", port), 30) as other:
        assert other.recv(100).startswith(b"220")
        other.sendall(b"EHLO other.example\r\nMAIL FROM:<a@sender.example>\r\n")
        other.sendall(b"RCPT TO:<ok.0.other@a.example>\r\nDATA\r\n")
        said = b""
        while b"354" not in said:
            piece = other.recv(4096)
            assert piece, said
            said += piece
        del client


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_disk_that_dies_or_turns_read_only(tmp_path: Path, kind: str) -> None:
    """4xx, then the end; no start on it; with the disk back nothing is missing."""
    with Disk(tmp_path, kind, mounting=",errors=remount-ro" if kind == "ext4" else "") as disk:
        config = {"spool": str(disk.place / "spool")}
        with Campaign(tmp_path / "campaign", 1, config=config, clients=0, operator=False) as campaign:
            relay, hand = campaign.relay, Hand(campaign)
            campaign.next_hop.turn_away()
            assert hand.send(5, LARGE) == [250] * 5
            client = Client(relay.smtp_port)
            if kind == "ext4":
                Path(f"/sys/fs/ext4/{disk.device.name}/trigger_fs_error").write_text("a test\n")
            else:
                disk.cut()
            try:
                assert hand.one(client).text.startswith(TROUBLE)
            except Gone:  # it has noticed by itself
                pass
            finally:
                client.close()
            assert hand.gets_nothing()
            assert relay.wait() == IO_ERROR
            relay.spawn()
            assert relay.wait() == CANNOT_CREATE
            disk.replug()
            campaign.restart(f"dead {kind}")
            campaign.next_hop.welcome()
            findings = campaign.finish(30)
        said = relay.log()
    assert "error: spool " in said
    assert f"the spool {relay.spool} cannot be used: " in said
    assert "Traceback" not in said
    assert findings.clean, str(findings)
    assert findings.figures["delivered"] == hand.accepted == 5


def test_no_more_files(tmp_path: Path) -> None:
    """Sessions that are there go on, new ones wait or are closed, nothing spins; a letter that needs a file
    gets 451. (The relay counts its sessions so that this does not happen; here its limit is lowered later.)
    """
    with telling(tmp_path) as campaign:
        relay, hand = campaign.relay, Hand(campaign)
        assert hand.send(1, LARGE) == [250]
        with closing(Client(relay.smtp_port)) as client:
            limits = resource.prlimit(relay.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
            assert hand.one(client, 2 * LARGE).text.startswith(TROUBLE)
            relay.wait_until(lambda: "spool content: [Errno 24]" in relay.log(), "saying so")
            assert hand.one(client).code == 250
            files = len(list(Path(f"/proc/{relay.pid}/fd").iterdir()))
            resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, (files + 4, limits[1]))
            waiting = connections(relay.smtp_port, 20)
            before = processor_time(relay.pid)
            time.sleep(1)  # in which a relay that spins shows
            spent = processor_time(relay.pid) - before
            resource.prlimit(relay.pid, resource.RLIMIT_NOFILE, limits)
            for connection in waiting:
                connection.close()
            assert hand.one(client, 2 * LARGE).code == 250
        relay.wait_until(relay.ready, "ready")
        relay.kill9()
        campaign.restart("no more files")
        findings = campaign.finish(30)
    print(f"{spent:.2f} s of processor time in a second")
    assert spent < 0.3
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] == hand.accepted


def connections(port: int, count: int) -> list[socket.socket]:
    """More than the relay has files for: some of them are greeted, some are not."""
    made = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(count)]
    assert select.select(made, [], [], 30)[0]
    time.sleep(SOME)  # in which all would be greeted
    greeted = 0
    for connection in made:
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # it waits, or was closed
            greeted += connection.recv(100).startswith(b"220")
    assert 0 < greeted < count
    return made


def processor_time(pid: int) -> float:
    """Seconds of it so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_limit_of_file_size(tmp_path: Path) -> None:
    """The signal kills nobody. Content that does not fit: 452; the log does not fit: 4xx, and at worst the
    end. What was accepted is there without the limit."""
    with telling(tmp_path) as campaign:
        relay, hand = campaign.relay, Hand(campaign)
        campaign.next_hop.turn_away()
        assert hand.send(2) == [250] * 2
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        assert hand.until_refused(1, 3_000_000).startswith(FULL)
        relay.wait_until(lambda: "spool content: [Errno 27]" in relay.log(), "saying so")
        assert hand.send(1) == [250]
        assert hand.until_refused(50, 90_000)[:3] in ("421", "451", "452")
        try:
            with closing(Client(relay.smtp_port)) as client:
                assert hand.one(client, 90_000).code // 100 == 4
        except Gone:
            assert relay.wait() == IO_ERROR
        relay.kill9()
        campaign.restart("file size limit")
        campaign.next_hop.welcome()
        findings = campaign.finish(30)
    assert "Traceback" not in relay.log()
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] == hand.accepted
