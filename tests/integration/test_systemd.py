"""The unit under a real systemd, installed as deploy/README.md says: what it may, keeps and survives."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from fakes.systemd import Systemd

README = Path(__file__).resolve().parents[2] / "deploy/README.md"
PREPARED = ("apt-get", "python3", "/opt/relay-0.1.0/bin/pip", "ln")  # the fake has a relay in its place
DROP_INS = "/etc/systemd/system/relay.service.d"
SEND = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=30) as client:
    client.sendmail("a@sender.example", ["b@example.org"], b"Subject: x\\r\\n\\r\\nbody\\r\\n")
"""
# What waits is kept: nobody listens where it would go. The spool's disk may be as small as it is.
CONFIG = """
hostname: relay.example
mx: {port: 1}
dns: {servers: ["127.0.0.1:1"]}
limits: {spool_reserve: 1MiB}
allow_volatile_spool: true
"""
ROUTE = """
routes:
  - {via: ["127.0.0.1:2587"], tls: none, username: me, password_file: smarthost-password, login_over: clear}
"""
SMARTHOST = """
import base64, socket
server = socket.create_server(("127.0.0.1", 2587))
print("ready")
peer = server.accept()[0].makefile("rwb", 0)
peer.write(b"220 smarthost.example ESMTP\\r\\n")
for line in peer:
    if line.upper().startswith(b"EHLO"):
        peer.write(b"250-smarthost.example\\r\\n250 AUTH PLAIN\\r\\n")
    elif line.upper().startswith(b"AUTH PLAIN"):
        print(base64.b64decode(line.split()[-1]).decode())
        peer.write(b"535 5.7.8 no\\r\\n")
        break
"""


def commands() -> list[list[str]]:
    """The commands of "Install as a service", in order."""
    (section,) = re.findall(r"^## Install as a service\n(.*?)^## ", README.read_text(), re.S | re.M)
    lines = [line.split("  # ")[0].strip() for line in re.findall(r"^    (.+)$", section, re.M)]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A relay that was installed by the book and runs."""
    with Systemd(tmp_path_factory.mktemp("systemd")) as made:
        for command in commands():
            if command[0] not in PREPARED:
                made.succeed(*command)
            if command[-1] == "/etc/relay/relay.yaml":
                made.succeed("tee", "/etc/relay/relay.yaml", text=CONFIG)
        yield made


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


@contextmanager
def changed(machine: Systemd, unit: str = "", config: str = "") -> Iterator[None]:
    """Runs with these lines in a drop-in and in relay.yaml, then as before again."""
    machine.succeed("mkdir", "-p", DROP_INS)
    machine.succeed("tee", f"{DROP_INS}/test.conf", text=f"[Service]\n{unit}")
    machine.succeed("tee", "/etc/relay/relay.yaml", text=CONFIG + config)
    try:
        machine.succeed("systemctl", "daemon-reload")
        machine.succeed("systemctl", "restart", "relay")
        yield
    finally:
        machine.succeed("rm", "-r", DROP_INS)
        machine.succeed("tee", "/etc/relay/relay.yaml", text=CONFIG)
        machine.succeed("systemctl", "daemon-reload")
        machine.succeed("systemctl", "restart", "relay")


def send(machine: Systemd, port: int = 2525) -> None:
    machine.succeed("python3", "-c", SEND, str(port))


def test_it_runs(machine: Systemd) -> None:
    """Active, with a status line; an unprivileged process without any capability."""
    assert machine.succeed("systemctl", "is-active", "relay") == "active\n"
    assert machine.property("relay", "StatusText").startswith("accepting mail on 127.0.0.1:2525; ")
    status = machine.succeed("cat", f"/proc/{machine.property('relay', 'MainPID')}/status")
    assert not re.search(r"^Uid:\s+0\s", status, re.M)
    assert set(re.findall(r"^Cap(?:Eff|Prm|Bnd|Amb):\s+(\w+)$", status, re.M)) == {"0" * 16}


def test_the_queue_is_there_for_its_operator(machine: Systemd) -> None:
    """As root and as the relay's user, by /run/relay while it runs, on the spool while it does not; the mail
    outlives the service."""
    send(machine)
    (control,) = machine.succeed("ls", "/run/relay").split()
    assert machine.succeed("readlink", "/var/spool/relay/control") == f"/run/relay/{control}\n"
    assert (
        machine.succeed("stat", "-c", "%U %a", "/run/relay", "/var/lib/relay").split() == ["relay", "700"] * 2
    )
    as_relay = ("runuser", "-u", "relay", "--", "/opt/relay/bin/relay")
    for who in (("relay",), as_relay):
        assert "b@example.org" in machine.succeed(*who, "queue", "list")
    machine.succeed("systemctl", "stop", "relay")
    for who in (("relay",), as_relay):
        assert "b@example.org" in machine.succeed(*who, "queue", "list")
    assert machine.run("ls", "/run/relay").returncode != 0
    machine.succeed("systemctl", "start", "relay")
    assert "b@example.org" in machine.succeed("relay", "queue", "list")


def test_a_reload(machine: Systemd) -> None:
    """`systemctl reload` reads the file again in the same process; a file that is wrong ends nothing."""
    process = machine.property("relay", "MainPID")
    machine.succeed("tee", "/etc/relay/relay.yaml", text="nonsense: 1\n")
    machine.succeed("systemctl", "reload", "relay")
    wait_for(lambda: "the last reload failed" in machine.property("relay", "StatusText"), "refused")
    machine.succeed("tee", "/etc/relay/relay.yaml", text=CONFIG)
    machine.succeed("systemctl", "reload", "relay")
    wait_for(lambda: "reload" not in machine.property("relay", "StatusText"), "taken")
    assert machine.property("relay", "SubState") == "running"
    assert machine.property("relay", "MainPID") == process


def test_a_process_that_hangs_is_started_anew(machine: Systemd) -> None:
    """No sign of life within WatchdogSec=: killed and started again; the mail is still there."""
    send(machine)
    with changed(machine, "WatchdogSec=2s\nRestartSec=100ms\n"):
        signs: set[str] = set()

        def sign() -> str:
            return machine.property("relay", "WatchdogTimestampMonotonic")

        process = machine.property("relay", "MainPID")
        machine.succeed("kill", "-STOP", process)
        wait_for(lambda: machine.property("relay", "NRestarts") == "1", "restarted")
        wait_for(lambda: machine.property("relay", "SubState") == "running", "running")
        assert machine.property("relay", "MainPID") != process
        assert "b@example.org" in machine.succeed("relay", "queue", "list")
        for _ in range(3):
            signs.add(sign())
            wait_for(lambda: sign() not in signs, "a sign of life")
        assert machine.property("relay", "NRestarts") == "1"


def test_a_wrong_configuration_is_not_tried_again(machine: Systemd) -> None:
    """Exit code 78: failed, and stays so."""
    machine.succeed("tee", "/etc/relay/relay.yaml", text="nonsense: 1\n")
    assert machine.run("systemctl", "restart", "relay").returncode != 0
    assert machine.property("relay", "ExecMainStatus") == "78"
    assert machine.property("relay", "ActiveState") == "failed"
    machine.succeed("tee", "/etc/relay/relay.yaml", text=CONFIG)
    machine.succeed("systemctl", "start", "relay")


def test_port_25_needs_the_drop_in(machine: Systemd) -> None:
    """As in the table of "Install as a service": refused without, open with it, still not root."""
    (line,) = re.findall(r"^\| listen on port 25 \| `(install [^`]+)`", README.read_text(), re.M)
    listeners = 'listeners: [{address: "127.0.0.1:25"}]\n'
    with changed(machine):
        machine.succeed("tee", "/etc/relay/relay.yaml", text=CONFIG + listeners)
        assert machine.run("systemctl", "restart", "relay").returncode != 0
        assert machine.property("relay", "ExecMainStatus") == "69"
        machine.succeed(*shlex.split(line))
        machine.succeed("systemctl", "daemon-reload")
        machine.succeed("systemctl", "restart", "relay")
        send(machine, 25)
        status = machine.succeed("cat", f"/proc/{machine.property('relay', 'MainPID')}/status")
        assert not re.search(r"^Uid:\s+0\s", status, re.M)


def test_a_secret_that_only_root_can_read(machine: Systemd) -> None:
    """`password_file: smarthost-password` is a copy of /etc/credstore/smarthost-password: the relay logs in
    with it. Without that file it runs as well. The operator's commands know where it is."""
    stored = "/etc/credstore/smarthost-password"
    machine.succeed("install", "-D", "-m", "0600", "/dev/stdin", stored, text="geheim\n")
    with changed(machine, config=ROUTE), smarthost(machine) as said:
        assert "warning: routes" not in machine.succeed("relay", "check")
        machine.succeed("relay", "queue", "retry", "--all")
        assert said.readline() == f"{chr(0)}me{chr(0)}geheim\n"
        as_relay = ("runuser", "-u", "relay", "--", "cat")
        assert machine.succeed(*as_relay, "/run/credentials/relay.service/smarthost-password") == "geheim\n"
        assert machine.run(*as_relay, stored).returncode != 0
        machine.succeed("rm", stored)
        machine.succeed("systemctl", "restart", "relay")
        assert f"{stored.rpartition('/')[2]}: there is no such file" in machine.succeed("relay", "check")


@contextmanager
def smarthost(machine: Systemd) -> Iterator[IO[str]]:
    """Where ROUTE leads: says what one login said, and refuses it."""
    process = machine.popen("python3", "-u", "-c", SMARTHOST)
    assert process.stdout
    with process, process.stdout as said:
        assert said.readline() == "ready\n"
        yield said
