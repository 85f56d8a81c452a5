"""systemd/: the unit is understood, hardened, and takes nothing away from the relay that it needs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_tool

from relay.config.model import Config

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
EXPOSURE = "15"  # tenths: systemd-analyze's 1.5, "OK"
PROGRAM = "/opt/relay/bin/relay"
AS_ROOT = {"fchown"}  # SQLite gives new files their directory's owner, only when it runs as root


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit where its program exists (systemd-analyze looks)."""
    program = tmp_path / "relay"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (SYSTEMD / "relay.service").read_text()
    assert f"ExecStart={PROGRAM} run " in text
    (tmp_path / "relay.service").write_text(text.replace(PROGRAM, str(program)))
    return tmp_path / "relay.service"


def add_port25(unit: Path) -> None:
    """The drop-in, where `port25.conf` says it belongs."""
    folder = unit.parent / "relay.service.d"
    folder.mkdir()
    shutil.copy(SYSTEMD / "port25.conf", folder)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = require_tool("systemd-analyze", "systemd")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def settings(name: str) -> list[str]:
    """Every value of a key of the unit, in order."""
    return re.findall(rf"^{name}=(.*)$", (SYSTEMD / "relay.service").read_text(), re.M)


@pytest.mark.parametrize("port25", [False, True])
def test_systemd_understands_it(unit: Path, port25: bool) -> None:
    """Not one word of complaint, also with the drop-in."""
    if port25:
        add_port25(unit)
    done = analyze("verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_wrong_key_is_seen(unit: Path) -> None:
    """verify reads this file, and this drop-in."""
    add_port25(unit)
    with (unit.parent / "relay.service.d/port25.conf").open("a") as file:
        file.write("AmbientCapability=CAP_CHOWN\n")
    assert "AmbientCapability" in analyze("verify", unit).stderr


@pytest.mark.parametrize("port25", [False, True])
def test_it_is_hardened(unit: Path, port25: bool) -> None:
    """An exposure of at most 1.5 of 10, also with the drop-in; without one of its lines it would be more."""
    if port25:
        add_port25(unit)
    secure = ("security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager")
    done = analyze(*secure, unit)
    assert done.returncode == 0, done.stdout
    unit.write_text(re.sub(r"^SystemCallFilter=.*\n", "", unit.read_text(), flags=re.M))
    assert analyze(*secure, unit).returncode != 0


def test_the_owner_and_the_spool_are_made(tmp_path: Path) -> None:
    """relay.sysusers makes the unit's user, relay.tmpfiles the link to its StateDirectory=; a spool that is
    there already stays."""
    sysusers = require_tool("systemd-sysusers", "systemd")
    tmpfiles = require_tool("systemd-tmpfiles", "systemd")
    if os.geteuid():
        pytest.skip("only root makes users and their directories")
    (tmp_path / "etc").mkdir()
    subprocess.run([sysusers, f"--root={tmp_path}", str(SYSTEMD / "relay.sysusers")], check=True, timeout=60)
    (user,) = settings("User")
    assert any(line.startswith(f"{user}:") for line in (tmp_path / "etc/passwd").read_text().splitlines())
    make = [tmpfiles, f"--root={tmp_path}", "--create", str(SYSTEMD / "relay.tmpfiles")]
    subprocess.run(make, check=True, timeout=60)
    spool = tmp_path / str(Config().spool).lstrip("/")
    (state,) = settings("StateDirectory")
    assert (spool.parent / spool.readlink()).resolve() == tmp_path / "var/lib" / state
    assert settings("ReadWritePaths") == [f"-{Config().spool}"]
    spool.unlink()
    spool.mkdir()
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    assert spool.is_dir() and not spool.is_symlink()


# --- what the relay does must be allowed


def groups() -> dict[str, set[str]]:
    """systemd's named sets of system calls, with the sets inside them."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in analyze("syscall-filter", "--no-pager").stdout.splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = set()
        elif name and line.startswith("    ") and "#" not in line:
            found[name].add(line.strip())
    return found


def members(name: str, known: dict[str, set[str]]) -> set[str]:
    """The system calls of a set; the nesting is shallow."""
    if not name.startswith("@"):
        return {name}
    return set().union(*(members(each, known) for each in known[name]))


def allowed(known: dict[str, set[str]]) -> set[str]:
    """What the unit's SystemCallFilter= lines leave: the first allows, "~" takes away."""
    calls: set[str] = set()
    for line in settings("SystemCallFilter"):
        named = set().union(*(members(each, known) for each in line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RelayProcess, list[str]]]:
    """A day in the life of a relay, every system call of it: mail small and large, a reload, the end."""
    strace = require_tool("strace", "strace")
    folder = tmp_path_factory.mktemp("trace")
    with RecordingSink() as sink:
        config = {"hostname": "", "routes": [{"via": [f"localhost:{sink.port}"]}]}
        relay = RelayProcess(folder, config, environment={"PYTHONDONTWRITEBYTECODE": "1"}, patience=60)
        try:
            relay.start([strace, "-f", "-qq", "-o", str(folder / "calls")])
            use(relay)
        finally:
            relay.__exit__()
    yield relay, (folder / "calls").read_text(errors="replace").splitlines()


def use(relay: RelayProcess) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp_port, timeout=60) as client:
        for body in (b"small\r\n", b"large enough for a file of its own\r\n" * 9000):
            client.sendmail("a@example.com", ["b@example.org"], b"Subject: x\r\n\r\n" + body)
    relay.wait_until(lambda: relay.waiting() == 0, "empty")
    assert relay.command("queue", "status").returncode == 0
    pid = int((relay.spool / "lock").read_text())
    os.kill(pid, signal.SIGHUP)
    relay.wait_until(lambda: relay.metric("relay_config_reloads_total", result="ok") == 1, "reloaded")
    os.kill(pid, signal.SIGTERM)
    assert relay.wait(60) == 0


Trace = tuple[RelayProcess, list[str]]


def test_every_system_call_is_allowed(trace: Trace) -> None:
    """SystemCallFilter= leaves what the relay needs: on uvloop (io_uring), SQLite, threads, limits."""
    calls = {found[1] for line in trace[1] if (found := re.match(r"\d+ +([a-z_0-9]+)\(", line))}
    assert {"openat", "fdatasync", "epoll_pwait", "accept4"} <= calls
    assert calls - allowed(groups()) <= AS_ROOT


def test_every_address_family_is_allowed(trace: Trace) -> None:
    """RestrictAddressFamilies= leaves every socket that is made."""
    (families,) = settings("RestrictAddressFamilies")
    used = {found[1] for line in trace[1] if (found := re.search(r"socket(?:pair)?\((AF_\w+|PF_\w+)", line))}
    assert {"AF_INET", "AF_UNIX"} <= used <= set(families.split())


def test_no_memory_is_made_executable(trace: Trace) -> None:
    """MemoryDenyWriteExecute= forbids memory that is both, and writable memory that becomes executable."""
    mappings = [line for line in trace[1] if "PROT_EXEC" in line]
    assert mappings
    assert not [line for line in mappings if "PROT_WRITE" in line or "mprotect(" in line]


def test_nothing_is_written_outside_the_spool(trace: Trace) -> None:
    """ProtectSystem=strict leaves the spool, and a read-only container its volume."""
    relay, lines = trace
    changed = set()
    for line in lines:
        opened = re.search(r'open(?:at)?\([^"]*"([^"]+)", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT)', line)
        made = re.search(r'\b(?:mkdir|unlink|rename|chmod|link|symlink)(?:at)?\([^"]*"([^"]+)"', line)
        changed |= {found[1] for found in (opened, made) if found}
    assert any(name.endswith("queue.db") for name in changed)
    own = (str(relay.spool), "/dev/null", "/proc/self/fd/")
    assert not [name for name in changed if not name.startswith(own)]
