"""`Image`: what deploy/Dockerfile makes, built by buildah without a registry; `Container`: it runs.

    image = Image.build(tmp_path)
    with image.container(tmp_path, {"RELAY__HOSTNAME": "relay.example"}) as container:
        container.run("relay", "health")

The base, under the name that the Dockerfile has for it, is a small Debian of mmdebstrap. A container has the
image's user, environment and command (its first process), a read-only root file system, one place to write to
(the volume), and namespaces of its own but for the network. Needs root, and the network for the packages.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from fakes.tools import require_root, require_tool

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # this machine's, which may know a proxy of its owner
INCLUDE = "--include=python3-venv,ca-certificates"
BUILD = 600.0  # s for one command of a build
PATIENCE = 30.0  # s

# As process 1 of the new namespaces: the root file system read-only, then the image's user and command.
START = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount --bind "$VOLUME" "$ROOT$POINT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o mode=0755 tmpfs "$ROOT/dev"
for each in null urandom; do touch "$ROOT/dev/$each"; mount --bind "/dev/$each" "$ROOT/dev/$each"; done
mkdir -p "$ROOT/run/secrets"
mount --bind -o ro "$SECRETS" "$ROOT/run/secrets"
mount -o remount,bind,ro "$ROOT"
cd /
exec setpriv --no-new-privs chroot --userspec="$USER" "$ROOT" env -i "$@"
"""


@dataclass
class Image:
    """store: a directory of its own; nothing of the machine's own images is used or left."""

    store: Path
    seconds: float = 0.0  # that the build took

    @classmethod
    def build(cls, directory: Path) -> Image:
        require_root("makes a root file system")
        made = cls(directory / "store")
        begun = time.monotonic()
        made._base(directory / "base")
        made._buildah(
            "bud", "--pull-never", "--format", "docker", "-f", str(DOCKERFILE), "-t", "relay", str(ROOT)
        )
        made.seconds = time.monotonic() - begun
        return made

    def _base(self, root: Path) -> None:
        """A Debian with Python, under the name of the Dockerfile's FROM."""
        (root.parent / "pip.conf").write_text(f"[global]\ncert = {AUTHORITIES}\n")
        uploads = ((AUTHORITIES, AUTHORITIES), (root.parent / "pip.conf", "/etc/pip.conf"))
        hooks = [f"--customize-hook=upload {here} {there}" for here, there in uploads]
        program = require_tool("mmdebstrap", "mmdebstrap")
        ran([program, "-q", "--variant=minbase", INCLUDE, *hooks, "bookworm", str(root)])
        container = self._buildah("from", "scratch")
        ran(["cp", "-a", f"{root}/.", self._buildah("mount", container)])
        shutil.rmtree(root)
        self._buildah("umount", container)
        (name,) = set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.M))
        self._buildah("commit", "-q", "--format", "docker", container, name)

    def _buildah(self, *command: str) -> str:
        """What it printed."""
        program = require_tool("buildah", "buildah")
        places = ("--storage-driver", "vfs", "--root", str(self.store), "--runroot", f"{self.store}-run")
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
        return ran([program, *places, *command], environment)

    def remove(self) -> None:
        """Half a gigabyte."""
        shutil.rmtree(self.store)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's, in Docker's form."""
        found = json.loads(self._buildah("inspect", "--type", "image", "relay"))
        return dict(found["Docker"]["config"])

    @cached_property
    def root(self) -> Path:
        """Its root file system."""
        return Path(self._buildah("mount", self._buildah("from", "--pull-never", "relay")))

    def container(self, directory: Path, environment: Mapping[str, str], *command: str) -> Container:
        """directory: for its volume and what it prints; "secrets" in it becomes /run/secrets. environment:
        beside the image's own. command: instead of the image's."""
        return Container(self, directory, environment, command)


class Container:
    """`with`: started at once; at the end it is killed if it still runs."""

    def __init__(
        self, image: Image, directory: Path, environment: Mapping[str, str], command: Sequence[str]
    ) -> None:
        self.image, own = image, image.config
        self.user, _, self.group = own["User"].partition(":")
        self.volume, self.output = directory / "volume", directory / f"output.{time.monotonic_ns()}"
        self._environment = [*own["Env"], *(f"{key}={value}" for key, value in environment.items())]
        self._command = [*own["Entrypoint"], *(command or own["Cmd"])]
        (point,) = own["Volumes"]
        for folder, owner in ((self.volume, int(self.user)), (directory / "secrets", 0)):
            folder.mkdir(exist_ok=True)
            os.chown(folder, owner, owner)
        self._variables = os.environ | {
            "ROOT": str(image.root), "USER": own["User"], "POINT": point,
            "VOLUME": str(self.volume), "SECRETS": str(directory / "secrets"),
        }  # fmt: skip

    def __enter__(self) -> Self:
        script = ["sh", "-c", START, "sh", *self._environment, *self._command]
        with self.output.open("wb") as out:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", *script],
                env=self._variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # to become another user undoes --kill-child
        self._process.wait(PATIENCE)

    def log(self) -> str:
        return self.output.read_text()

    @property
    def pid(self) -> int:
        """Its first process, as seen from outside; AssertionError when it has ended."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + PATIENCE
        while not (found := children.read_text().split()):  # not there yet
            assert self._process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        return int(found[0])

    def stop(self) -> int:
        """SIGTERM to its first process, as `docker stop` does; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(PATIENCE)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec`: with the image's user and environment."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-r", "-w"]
        enter += ["-S", self.user, "-G", self.group]
        return subprocess.run(
            [*enter, "env", "-i", *self._environment, *command],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip


def ran(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What it printed; AssertionError with all it said when it fails."""
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=BUILD, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()
