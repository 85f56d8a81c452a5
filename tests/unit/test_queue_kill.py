"""mailqueue and kill -9; and the example of queue/README.md."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.queue_child import CHILD, ROOT, child
from fakes.spool import SMALL, everything, opened

from mailqueue import (
    State,
)


@pytest.mark.parametrize("admit", ["False", "lane and __import__('random').random() < 0.5"])
async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, admit: str) -> None:
    """Every accepted id that was not settled is there after the restart, whole; the lock is free."""
    spool = tmp_path / "spool"
    code = CHILD.format(spool=str(spool), options=repr(SMALL), admit=admit, count=10_000, size=3000)
    with child(code) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(500)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    said = [line.split() for line in lines if line.endswith("\n")]
    accepted = {name for kind, name in said if kind == "accepted"}
    settled = {name for kind, name in said if kind == "settled"}
    assert len(accepted) > 200
    async with opened(spool) as queue:
        rows = {row.message: row for row in await everything(queue)}
        assert set() == (accepted - settled) - set(rows)
        for name, row in rows.items():
            content = await queue.read_content(name)
            assert row.size == (content.stat().st_size if isinstance(content, Path) else len(content or b""))
        assert queue.stats()[State.ACTIVE].entries == 0


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    """As it stands there, in a fresh interpreter."""
    text = (ROOT / "queue" / "README.md").read_text()
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "queue")}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("accepted ")
    assert lines[1:] == [r"sending to@example.net b'Subject: hello\r\n\r\nbody\r\n'", "left []"]
