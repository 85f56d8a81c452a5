"""`Systemd`: a real one, process 1 of namespaces of its own, on a copy of this machine that is thrown away.

    with Systemd(tmp_path) as machine:
        machine.succeed("systemctl", "start", "relay")

Its network is a loopback of its own (systemd sets it up), its /etc/systemd/system is empty, the project is
/project, and /opt/relay/bin/relay runs it. It is up in a second. Needs root, and the right to mount.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pydantic
from fakes.tools import missing, require_root, require_tool

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/opt/python"
PATH = "/opt/relay/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = str(Path(pydantic.__file__).resolve().parents[1])  # what this interpreter uses
PATIENCE = 60.0  # s for one command, and for the start

# In a mount namespace: a cgroup of our own, then the other namespaces with `PREPARE` as process 1.
OUTSIDE = """
set -e
mount --make-rprivate /
echo $$ >"$CGROUP/cgroup.procs"
exec unshare --cgroup --pid --uts --ipc --net --fork --kill-child sh -c "$PREPARE"
"""

# pivot_root, not chroot: in a chroot nobody may make user namespaces (unshare(2)), which PrivateUsers= needs.
# Shared mounts: credentials are mounted by a helper that has a mount namespace of its own.
PREPARE = """
set -e
mount -t tmpfs -o mode=0755 tmpfs "$PLACE"
mkdir "$PLACE/upper" "$PLACE/work" "$PLACE/root"
R=$PLACE/root
mount -t overlay -o "lowerdir=/,upperdir=$PLACE/upper,workdir=$PLACE/work" overlay "$R"
mount -t proc proc "$R/proc"
mount -t sysfs -o ro sysfs "$R/sys"
for each in run tmp dev etc/systemd/system; do mount -t tmpfs -o mode=0755 tmpfs "$R/$each"; done
mkdir "$R/dev/shm" && mount -t tmpfs tmpfs "$R/dev/shm"
for each in dev/null dev/zero dev/full dev/random dev/urandom dev/tty; do
    touch "$R/$each"
    mount --bind "/$each" "$R/$each"
done
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
touch "$R/dev/console" && mount --bind "$CONSOLE" "$R/dev/console"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mkdir -p "$R/project" "$R/opt/python" "$R/opt/relay/bin" "$R/opt/packages"
mount --bind -o ro "$PROJECT" "$R/project"
mount --bind -o ro "$PYTHON_HERE" "$R/opt/python"
mount --bind -o ro "$PACKAGES" "$R/opt/packages"
printf '%s' "$RELAY" >"$R/opt/relay/bin/relay" && chmod 0755 "$R/opt/relay/bin/relay"
rm -rf "$R/etc/relay" "$R/var/lib/relay" "$R/var/spool/relay" "$R/etc/credstore"
cd "$R" && mkdir -p mnt && pivot_root . mnt
umount -l /mnt && mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target
"""

RELAY = f"""#!/bin/sh
export PYTHONPATH=/project:/project/queue:/opt/packages PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH={PYTHON}/lib
exec {PYTHON}/bin/python{sys.version_info[0]}.{sys.version_info[1]} -m relay "$@"
"""


class Systemd:
    """One machine; directory: for its mounts and what it prints at the start."""

    def __init__(self, directory: Path) -> None:
        require_root("makes namespaces and mounts")
        require_tool("systemd-analyze", "systemd")
        self.place, self.console = directory / "machine", directory / "console"
        self.place.mkdir()
        self.console.touch()
        self.cgroup = cgroups() / f"relay-test-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.cgroup.mkdir()
        environment = os.environ | {
            "PREPARE": PREPARE, "PLACE": str(self.place), "CGROUP": str(self.cgroup),
            "CONSOLE": str(self.console), "PROJECT": str(ROOT), "PYTHON_HERE": sys.base_prefix,
            "PACKAGES": PACKAGES, "RELAY": RELAY,
        }  # fmt: skip
        try:
            with self.console.open("ab") as log:
                self._process = subprocess.Popen(
                    ["unshare", "--mount", "sh", "-c", OUTSIDE], env=environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            self._wait_for_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        """Every process of the namespace goes with its process 1."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self.cgroup.exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                with contextlib.suppress(OSError):  # not empty yet: the kernel is still at it
                    Path(folder).rmdir()

    def _wait_for_start(self) -> None:
        assert self._process
        deadline = time.monotonic() + PATIENCE
        while not self._started():
            assert self._process.poll() is None, self.console.read_text()
            assert time.monotonic() < deadline, self.console.read_text()
            time.sleep(0.05)

    def _started(self) -> bool:
        return bool(self._first()) and self.run("systemctl", "is-active", "basic.target").stdout == "active\n"

    def _first(self) -> str:
        """Process 1 of the machine, as seen from here; "" while there is none."""
        assert self._process
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return children[0] if Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n" else ""
        except (OSError, IndexError):
            return ""

    def _inside(self, command: Sequence[str]) -> list[str]:
        enter = ["nsenter", "-t", self._first(), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w"]
        return [*enter, "env", "-i", "-C", "/project", f"PATH={PATH}", *command]

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """A command inside, as root, in /project; text: its standard input."""
        return subprocess.run(
            self._inside(command), input=text, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def popen(self, *command: str) -> subprocess.Popen[str]:
        """The same, for a program whose output is read as it comes; it ends by itself in time."""
        return subprocess.Popen(
            self._inside(["timeout", str(PATIENCE), *command]), stdout=subprocess.PIPE, text=True
        )

    def succeed(self, *command: str, text: str = "") -> str:
        """What it printed; AssertionError with all it said when it fails."""
        done = self.run(*command, text=text)
        said = done.returncode == 0 or self.run("journalctl", "-n", "50", "--no-pager", "-o", "cat").stdout
        assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}\n{said}"
        return done.stdout

    def property(self, unit: str, name: str) -> str:
        """As `systemctl show` has it."""
        return self.succeed("systemctl", "show", "--value", "-p", name, unit).strip()


def cgroups() -> Path:
    """Where the one tree of cgroups (version 2) is mounted."""
    found = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/self/mounts").read_text(), re.M)
    if found is None:
        missing("no cgroup2 is mounted, which systemd needs")
        raise AssertionError
    return Path(found[1])
