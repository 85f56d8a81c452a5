"""Logins in a real relay: what one from memory costs, what guessers cost others, users that come and go.

Short by default; `make scale` sets RELAY_FULL=1: 2,000 logins, 10,000 tries.
"""

from __future__ import annotations

import base64
import os
import smtplib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.relay_process import ROOT, RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_tool

from relay.users.editing import Owner, change, with_line, without
from relay.users.password import make_hash

WORD = "correct horse"
LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0app\0" + WORD.encode()) + b"\r\n"
FULL = os.environ.get("RELAY_FULL") == "1"
LOGINS = 2000 if FULL else 500
MAILS = 200 if FULL else 50  # before the guessing begins
TRIES = 10_000 if FULL else 2000
HOSTS = 30
PACE = 0.01  # seconds between two mails


class ClearSubmission(RelayProcess):
    """A relay that demands a login, over clear connections so that TLS does not cost anything here."""

    def __init__(self, directory: Path, sink: RecordingSink) -> None:
        super().__init__(directory)
        self.users = directory / "users"
        self.user("app", WORD)
        listener = {"address": f"127.0.0.1:{self.smtp_port}", "auth": "required", "auth_over": "clear"}
        self.configure(
            {
                "listeners": [listener],
                "users_file": str(self.users),
                "routes": [{"via": [f"127.0.0.1:{sink.port}"]}],
                "log": {"level": "warning"},
            }
        )

    def user(self, name: str, password: str) -> None:
        line = f"{name}:{make_hash(password, os.urandom(16)).line}"
        change(self.users, lambda text: with_line(text, name, line), Owner())

    def cpu(self) -> float:
        """Seconds of CPU used so far, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def logins(self, result: str) -> float:
        return self.metric("relay_auth_total", result=result)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[ClearSubmission]:
    with RecordingSink() as sink, ClearSubmission(tmp_path, sink) as relay:
        yield relay


class Connection:
    """A client that costs little itself."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.socket.makefile("rb")
        self.hear(b"220")

    def __enter__(self) -> Connection:
        self.say(b"EHLO app.example\r\n", b"250")
        self.say(LOGIN, b"235")
        return self

    def __exit__(self, *_: object) -> None:
        self.say(b"QUIT\r\n", b"221")
        self.file.close()
        self.socket.close()

    def say(self, line: bytes, *codes: bytes) -> None:
        self.socket.sendall(line)
        for code in codes:
            self.hear(code)

    def hear(self, code: bytes) -> None:
        line = self.file.readline()
        while line[3:4] == b"-":
            line = self.file.readline()
        assert line.startswith(code), line

    def mail(self) -> None:
        envelope = b"MAIL FROM:<a@app.example>\r\nRCPT TO:<b@remote.example>\r\nDATA\r\n"
        self.say(envelope, b"250", b"250", b"354")
        self.say(b"Subject: report\r\n\r\nall is well\r\n.\r\n", b"250")


def test_a_login_from_memory_costs_little(relay: ClearSubmission) -> None:
    """A connection for each login, at most 1 ms of CPU of the relay: 1,000 logins a second on one core."""
    for _ in range(100):
        with Connection(relay.smtp_port):
            pass
    before, begun = relay.cpu(), time.perf_counter()
    for _ in range(LOGINS):
        with Connection(relay.smtp_port):
            pass
    each = (relay.cpu() - before) / LOGINS
    rate = LOGINS / (time.perf_counter() - begun)
    print(f"{each * 1000:.2f} ms CPU a login, {rate:.0f} logins a second one after the other")
    assert relay.logins("ok") == 1 and relay.logins("cached") == LOGINS + 99
    assert each <= 0.001


def times(relay: ClearSubmission, go_on: Callable[[int], bool]) -> list[float]:
    """Seconds of whole mails, each on a connection with a login of its own."""
    taken: list[float] = []
    while go_on(len(taken)):
        begun = time.perf_counter()
        with Connection(relay.smtp_port) as connection:
            connection.mail()
        taken.append(time.perf_counter() - begun)
        time.sleep(PACE)
    return taken


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[98]


def test_guessers_do_not_slow_others(relay: ClearSubmission) -> None:
    """TRIES wrong ones, a flood from one address and slow ones from thirty others, keep the threads that
    check passwords busy all the time; a client with a login the relay remembers goes on beside them."""
    times(relay, lambda number: number < 20)
    calm = times(relay, lambda number: number < MAILS)
    guesser = subprocess.Popen(
        [sys.executable, "-m", "fakes.guesser", str(relay.smtp_port), str(TRIES), str(HOSTS)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        begun = time.monotonic()
        beset = times(relay, lambda _: guesser.poll() is None and time.monotonic() < begun + 100)
        output = guesser.communicate(timeout=20)[0]
    finally:
        guesser.kill()
        guesser.wait(10)
    print(f"{output.strip()} in {time.monotonic() - begun:.0f} s")
    slow, quick = p99(beset) * 1000, p99(calm) * 1000
    print(f"p99 of a mail: {quick:.1f} ms before, {slow:.1f} ms beside them ({len(beset)} mails)")
    assert int(output.split()[0]) >= TRIES
    assert relay.logins("failed") >= 3 and relay.logins("blocked") + relay.logins("busy") > TRIES / 2
    assert len(beset) >= MAILS / 5
    assert p99(beset) < 0.5 + 10 * p99(calm)


def test_users_come_and_go(relay: ClearSubmission) -> None:
    """Without a restart or a reload: a new user is in, a removed one is out although remembered, and a file
    that cannot be used changes nothing."""

    def code(name: str, word: str) -> int:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30) as client:
            client.ehlo()
            client.user, client.password = name, word
            return client.auth("PLAIN", client.auth_plain)[0]

    def becomes(wanted: int, name: str, word: str) -> None:
        deadline = time.monotonic() + 20
        while (found := answer(name, word)) != wanted:
            assert time.monotonic() < deadline, (found, relay.log())

    def answer(name: str, word: str) -> int:
        try:
            return code(name, word)
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code

    assert code("app", WORD) == 235
    relay.user("cron", "another word")
    becomes(235, "cron", "another word")
    change(relay.users, lambda text: without(text, "app"), Owner())
    becomes(535, "app", WORD)
    assert code("cron", "another word") == 235
    relay.users.write_bytes(b"\xff")
    relay.wait_until(lambda: relay.metric("relay_users_file_errors_total") == 1, "told of the bad file")
    assert code("cron", "another word") == 235
    assert relay.metric("relay_users") == 1


def test_fail2ban_reads_our_failures(relay: ClearSubmission) -> None:
    """Its filter for Postfix finds the client of each failed login, and nothing else in our log."""
    fail2ban = require_tool("fail2ban-regex", "fail2ban")
    with Connection(relay.smtp_port) as connection:
        connection.mail()
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30, source_address=("127.0.0.3", 0)) as client:
        client.ehlo()
        for client.user in ("app", "nobody [127.0.0.9]: x"):
            client.password = "wrong"
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.auth("PLAIN", client.auth_plain)
    relay.terminate()
    report = subprocess.run(
        [fail2ban, "-o", "ip", str(relay.directory / "relay.log"), "postfix[mode=auth, _daemon=relay/smtpd]"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert report.stdout.split() == ["127.0.0.3"] * 2, relay.log()
