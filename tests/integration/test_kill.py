"""Promises 1 and 6: after kill -9 every 250 is delivered or queued; what may be there twice was counted."""

from __future__ import annotations

import os
import random
import smtplib
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_tool

KILLS = 20 if os.environ.get("RELAY_FULL") else 8  # and campaign 1 of tests/faults/
MESSAGE = b"Subject: kill\r\n\r\nbody\r\n"
SENDER = "app@sender.example"
IMPATIENT = {"RELAY__RETRY__AFTER_CRASH": "1s"}


@pytest.fixture
def sink() -> Iterator[RecordingSink]:
    with RecordingSink(keep=False) as sink:
        yield sink


def relay_to(sink: RecordingSink, directory: Path) -> RelayProcess:
    config = {"routes": [{"name": "all", "via": [f"127.0.0.1:{sink.port}"]}]}
    return RelayProcess(directory, config, environment=IMPATIENT, patience=30)


class Clients:
    """Threads that send numbered messages until stopped; acked: the recipients that were answered 250."""

    def __init__(self, relay: RelayProcess, threads: int = 8) -> None:
        self.relay = relay
        self.acked: set[str] = set()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.acked) + count
        self.relay.wait_until(lambda: len(self.acked) >= wanted, "under load")

    def run(self, number: int) -> None:
        count = 0
        while not self.stopping.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.relay.smtp_port, timeout=10) as client:
                    while not self.stopping.is_set():
                        count += 1
                        recipient = f"{number}.{count}@example.com"
                        client.sendmail(SENDER, [recipient], MESSAGE)
                        self.acked.add(recipient)
            except (OSError, smtplib.SMTPException):
                self.stopping.wait(0.02)  # the relay is down; the next round connects again


def drained(relay: RelayProcess, sink: RecordingSink, acked: set[str]) -> Counter[str]:
    """Waits until every acknowledged recipient has arrived; how often each did."""

    def all_there() -> bool:
        return acked <= {m.recipients[0] for m in list(sink.messages)}

    relay.wait_until(all_there, "drained", 60)
    relay.wait_until(lambda: relay.waiting() == 0, "empty", 60)
    return Counter(m.recipients[0] for m in sink.messages)


def test_killed_at_random_under_load(sink: RecordingSink, tmp_path: Path) -> None:
    """Twenty kills at random moments: nothing acknowledged is missing, every repetition was counted."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    possible = 0.0
    with relay_to(sink, tmp_path) as relay:
        with Clients(relay) as clients:
            for _ in range(KILLS):
                clients.wait_for_more(20)
                time.sleep(rng.random() * 0.5)  # the random moment itself, not a wait for anything
                relay.kill9()
                relay.start()
                possible += relay.metric("relay_possible_duplicates_total")
        relay.command("queue", "release", "--all")  # what was in flight at three of the kills
        counted = drained(relay, sink, clients.acked)
    repeated = sum(count - 1 for count in counted.values())
    print(f"{len(clients.acked)} acknowledged, {repeated} repeated, {possible:.0f} possible")
    assert repeated <= possible


# --- the five named points


def send(relay: RelayProcess, recipient: str) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=20) as client:
        client.sendmail(SENDER, [recipient], MESSAGE)


def test_point_1_in_the_middle_of_data(sink: RecordingSink, tmp_path: Path) -> None:
    """Killed while content arrives: nothing of it is left, the rest of the queue is."""
    sink.answers["CONNECT"] = "421 4.3.2 not yet"
    with relay_to(sink, tmp_path) as relay:
        send(relay, "before@example.com")
        with socket.create_connection(("127.0.0.1", relay.smtp_port)) as client:
            lines = client.makefile("rb")
            client.sendall(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<half@example.com>\r\nDATA\r\n")
            while not lines.readline().startswith(b"354"):
                pass
            client.sendall(b"Subject: half\r\n\r\n" + b"x" * 70 + b"\r\n" * 100_000)
            relay.wait_until(lambda: relay.metric("relay_smtp_sessions") >= 1, "in DATA")
            relay.kill9()
        sink.answers.clear()
        relay.start()
        counted = drained(relay, sink, {"before@example.com"})
        assert list((relay.spool / "content").iterdir()) == []
    assert set(counted) == {"before@example.com"}


@contextmanager
def killer(relay: RelayProcess, nth: int) -> Iterator[None]:
    """An strace that kills the relay at the start of its nth sync of data from now on."""
    command = [
        require_tool("strace", "strace"), "-f", "-qq", "-o", str(relay.directory / "strace.log"),
        "-p", str(relay.pid), "-e", "trace=fdatasync", "-e", f"inject=fdatasync:signal=SIGKILL:when={nth}",
    ]  # fmt: skip
    with subprocess.Popen(command) as tracer:
        try:
            relay.wait_until(lambda: all_traced(relay.pid), "traced")
            yield
        finally:
            tracer.terminate()


def all_traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def send_until_it_dies(relay: RelayProcess) -> set[str]:
    """Sends to a relay that is about to die in a sync; who was acknowledged."""
    acked: set[str] = set()
    for number in range(20):
        try:
            send(relay, f"{number}@example.com")
        except (OSError, smtplib.SMTPException):
            break
        acked.add(f"{number}@example.com")
    assert relay.wait() != 0
    return acked


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_points_2_and_5_in_the_syncs_of_accept_and_outcome(
    sink: RecordingSink, tmp_path: Path, nth: int
) -> None:
    """Killed in a sync: what was not acknowledged may be lost, what was is delivered or queued."""
    with relay_to(sink, tmp_path) as relay:
        with killer(relay, nth):
            acked = send_until_it_dies(relay)
        relay.start()
        counted = drained(relay, sink, acked)
        possible = relay.metric("relay_possible_duplicates_total")
    assert acked <= set(counted)
    assert sum(count - 1 for count in counted.values()) <= possible


@pytest.mark.parametrize(
    ("point", "stage"), [("3 leased, not connected", "CONNECT"), ("4 after the final dot", "DOT")]
)
def test_points_3_and_4_at_the_next_hop(sink: RecordingSink, tmp_path: Path, point: str, stage: str) -> None:
    """Killed while the next hop is silent: tried again after the pause, the repetition was counted."""
    sink.delays[stage] = 600.0
    with relay_to(sink, tmp_path) as relay:
        send(relay, "silent@example.com")
        relay.wait_until(
            lambda: sink.sessions == 1 and (stage == "CONNECT" or b"DATA" in sink.commands), point
        )
        relay.kill9()
        sink.delays.clear()
        relay.start()
        assert relay.metric("relay_possible_duplicates_total") == 1
        counted = drained(relay, sink, {"silent@example.com"})
    assert counted["silent@example.com"] in (1, 2)
