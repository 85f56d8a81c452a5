"""What a test needs of the machine: programs and rights.

At a desk a missing one skips the test and names the package; where CI=true it fails, so that a forgotten
package never hides a test.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def require_tool(name: str, package: str) -> str:
    """The path of a program (also looked for in the sbin directories, which not every PATH has)."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        missing(f"{name} is missing: install the Debian package {package}")
    return str(found)


def require_module(command: str, package: str) -> None:
    """A program's module that has no program of its own; command: words that succeed where it is there."""
    done = subprocess.run(
        command.split(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    if done.returncode != 0:
        missing(f"{command!r} fails: install the Debian package {package}")


def require_root(why: str) -> None:
    if os.geteuid() != 0:
        missing(f"needs root: {why}")


def missing(text: str) -> None:
    """Skips the test, or fails it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)
