"""Memory that was freed stays at hand."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource
from relay.cli.memory import keep_freed
{call}
def come_and_go():
    for _ in range(20):
        blocks = [bytearray(200_000) for _ in range(20)]
come_and_go()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
come_and_go()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call: str) -> int:
    """Pages the system had to find for blocks that come and go, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_blocks_that_come_and_go_need_no_new_pages() -> None:
    assert faults("keep_freed()") < 200 < 2000 < faults("")
