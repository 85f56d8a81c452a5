"""The process around the relay: its limits, its signals, what a reload changes and what it cannot."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_root


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A DNS server that reads questions and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        yield server


def reload(relay: RelayProcess, config: dict[str, object], number: int = 1) -> str:
    """The last line of the log after the reload of that number."""
    relay.configure(config)
    relay.send(signal.SIGHUP)
    relay.wait_until(lambda: relay.metric("relay_config_reloads_total", result="ok") == number, "reloaded")
    return next(line for line in reversed(relay.log().splitlines()) if "configuration read again" in line)


def asked(server: socket.socket, name: str) -> tuple[bytes, tuple[str, int]]:
    """The first question about `name`, and who asks."""
    for _ in range(20):
        question, asker = server.recvfrom(512)
        if str(dns.message.from_wire(question).question[0].name) == name:
            return question, asker
    raise AssertionError(f"nobody asks for {name}")


def refusal(question: bytes) -> bytes:
    """SERVFAIL."""
    answer = dns.message.make_response(dns.message.from_wire(question))
    answer.set_rcode(dns.rcode.SERVFAIL)
    return answer.to_wire()


def test_the_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    """A soft limit of 1024 does not hold a thousand sessions and five hundred connections."""
    with RelayProcess(tmp_path) as relay:
        relay.terminate()
        relay.start(["sh", "-c", 'ulimit -Sn 300; exec "$@"', "sh"])
        found = re.search(r"Max open files +(\d+)", Path(f"/proc/{relay.pid}/limits").read_text())
        assert found and int(found[1]) > 3000
        assert "open files" not in relay.log()


def test_too_few_files_are_told(tmp_path: Path) -> None:
    """One warning that says how many are needed and what to do."""
    with RelayProcess(tmp_path) as relay:
        relay.terminate()
        relay.start(["sh", "-c", 'ulimit -Sn 300; ulimit -Hn 400; exec "$@"', "sh"])
        (told,) = (line for line in relay.log().splitlines() if "open files" in line)
        assert "may have 400" in told and "LimitNOFILE" in told


def test_what_needs_a_restart_is_told(tmp_path: Path) -> None:
    """Also the part of a section that otherwise holds at once; what is odd is told as at a start."""
    with RelayProcess(tmp_path) as relay:
        told = reload(relay, {"limits": {"spool_reserve": "2MiB", "message_size": 70_000}})
        assert told.endswith("these need a restart: limits.spool_reserve")
        with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "70000"
        capture = {"name": "box", "via": f"capture:{tmp_path}/box"}
        assert reload(relay, {"routes": [capture]}, 2).endswith("configuration read again")
        assert "routes.0: mail of 'box' is written to files" in relay.log()


def test_a_hangup_during_the_start_ends_nothing(tmp_path: Path) -> None:
    """However early: SIGHUP's default is to kill."""
    program = (
        "import os, signal, sys\n"
        "from relay.cli import run\n"
        "load = run.load\n"
        "def hung_up(*given):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return load(*given)\n"
        "run.load = hung_up\n"
        "from relay.cli.main import main\n"
        "sys.exit(main(['run', '-c', sys.argv[1]]))\n"
    )
    (tmp_path / "relay.yaml").write_text("nonsense: 1\n")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "relay.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr


def test_the_first_process_of_a_container_obeys_from_the_start(tmp_path: Path) -> None:
    """For process 1 SIGTERM does nothing by default: here it comes while the configuration is being read."""
    require_root("makes a namespace")
    os.mkfifo(tmp_path / "relay.yaml")
    program = [sys.executable, "-m", "relay", "run", "-c", "relay.yaml"]
    with subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *program], cwd=tmp_path) as process:
        writer = os.open(tmp_path / "relay.yaml", os.O_WRONLY)  # opened once somebody reads
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            os.close(writer)


def test_a_control_socket_that_cannot_be(tmp_path: Path) -> None:
    """One line, no traceback."""
    with RelayProcess(tmp_path) as relay:
        assert relay.terminate() == 0
        (relay.spool / "control").write_text("not a socket")
        relay.spawn()
        assert relay.wait() == 69
        said = [line for line in relay.log().splitlines() if " relay/" not in line]
        assert len(said) == 1 and str(relay.spool / "control") in said[0]


def test_the_control_socket_in_a_runtime_directory(tmp_path: Path) -> None:
    """`relay queue` finds it through the spool; after kill -9, and a reboot, it asks the spool itself."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    with RelayProcess(tmp_path, environment={"RUNTIME_DIRECTORY": str(runtime)}) as relay:
        (place,) = runtime.iterdir()
        assert place.is_socket() and (relay.spool / "control").readlink() == place
        assert f'"pid": {relay.pid}' in relay.command("queue", "status", "--json").stdout
        relay.kill9()
        assert relay.command("queue", "list").returncode == 0
        place.unlink()
        assert relay.command("queue", "list").returncode == 0
        relay.start()
        assert relay.command("queue", "status").returncode == 0
        assert relay.terminate() == 0
    assert not list(runtime.iterdir()) and not (tmp_path / "spool/control").is_symlink()


def test_a_runtime_directory_that_is_not_there(tmp_path: Path) -> None:
    """One line that names the place."""
    with RelayProcess(tmp_path) as relay:
        assert relay.terminate() == 0
        relay = RelayProcess(tmp_path, environment={"RUNTIME_DIRECTORY": "/nowhere"})
        try:
            relay.spawn()
            assert relay.wait() == 69
        finally:
            relay.__exit__()
        assert "cannot listen on /nowhere/control-" in relay.log()


def test_a_reload_in_the_middle_of_a_lookup(silent: socket.socket, tmp_path: Path) -> None:
    """Who waits for an answer of the DNS still gets it; mail that waits goes the new way at once."""
    server = f"127.0.0.1:{silent.getsockname()[1]}"
    with RecordingSink() as sink, RelayProcess(tmp_path, {"dns": {"servers": [server]}}) as relay:
        with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=30) as client:
            client.sendmail("a@sender.example", ["x@slow.example"], b"Subject: x\r\n\r\nbody\r\n")
        silent.recv(512)
        explaining = relay.popen("explain", "x@other.example")
        question, asker = asked(silent, "other.example.")
        reload(relay, {"routes": [{"name": "all", "via": [f"127.0.0.1:{sink.port}"]}]})
        (message,) = sink.wait(1)
        assert message.recipients == ["x@slow.example"]
        silent.sendto(refusal(question), asker)
        out, _ = explaining.communicate(timeout=30)
        assert (explaining.returncode, "SERVFAIL" in out) == (0, True), out


def test_a_taken_port_of_the_admin_side(tmp_path: Path) -> None:
    """Named by its key; what was begun before is undone."""
    port = ReservedPort()
    listening = port.listening()
    listening.listen()
    try:
        with RelayProcess(tmp_path, {"admin": {"address": f"127.0.0.1:{port.port}"}}) as relay:
            pytest.fail(f"started: {relay.log()}")
    except AssertionError as error:
        assert f"admin: cannot listen on 127.0.0.1:{port.port}" in str(error)
    finally:
        listening.close()
        port.close()
    assert not (tmp_path / "spool/control").exists()
