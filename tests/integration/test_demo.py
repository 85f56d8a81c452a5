"""`relay demo` as people run it: a process, its exit code, what it says, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 30.0  # s; what the demonstration may take


# Python that runs before the demonstration: the same story in a hurry; a next hop that refuses instead.
QUICK = """
from dataclasses import replace
from relay.demo import cast
cast.CAST = tuple(replace(each, pause=each.pause / 20) for each in cast.CAST)
from relay.demo import scene
scene.RETRY = "[100ms, 200ms]"
from relay.demo import story
story.GAP = 0.0
"""
SPOIL = """
for letter in (each for each in cast.CAST if each.pause):
    object.__setattr__(letter, "refusals", ("554 5.7.1 Not today",))
    object.__setattr__(letter, "stubborn", True)
"""


def environment(directory: Path) -> Mapping[str, str]:
    """A temporary directory of its own, so that what is left behind can be seen."""
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'queue'}",
        "TMPDIR": str(directory),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def demo(
    directory: Path, *arguments: str, code: str = "", background: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """The process; killed at the end if it still runs. code: Python to run before. background: as a
    script's `&` starts it, which ignores SIGINT."""
    code += "\nimport signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" if background else ""
    start = f"{code}\nimport sys; from relay.cli.main import main; sys.exit(main(['demo', *sys.argv[1:]]))"
    process = subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        cwd=ROOT, env=environment(directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ends_by_itself_with_every_fate_as_expected(tmp_path: Path) -> None:
    """Exit 0 within 30 s, a line for each thing that happened, the bounce's words, no file left."""
    with demo(tmp_path) as process:
        text, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, text
    assert re.search(r"ada@quick\.example +accepted and on disk: queued as \w+", text)
    assert re.search(r"ada@quick\.example +delivered: 250 2\.0\.0 Kept", text)
    assert len(re.findall(r"ben@busy\.example +kept for another try: 451", text)) == 2
    assert re.search(r"cleo@strict\.example +given up: 550 5\.1\.1 No such user", text)
    assert re.search(r"/metrics +relay_queue_messages: .*[1-9]\d* deferred", text)
    assert re.search(r"\n  \| .*cleo@strict\.example", text)
    assert "All 5 fates as expected (4 and the bounce)" in text
    assert "\x1b" not in text
    assert list(tmp_path.iterdir()) == []


def test_another_fate_is_exit_1(tmp_path: Path) -> None:
    """When the slow next hop refuses instead, the demonstration says so and fails."""
    with demo(tmp_path, code=QUICK + SPOIL) as process:
        text, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 1, text
    assert "dan@slow.example: expected to be delivered at try 1, but is bounced after 1 (554" in text
    assert "The relay's log ends:" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_stay_goes_on_until_it_is_interrupted(tmp_path: Path, name: str) -> None:
    """--stay prints addresses that work; then a signal ends it with 0 and nothing is left."""
    with demo(tmp_path, "--stay", code=QUICK) as process:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Next hops:"):
                break
        host, port = re.findall(r"smtp://([\d.]+):(\d+)", said)[0]
        with smtplib.SMTP(host, int(port)) as client:
            client.sendmail("me@orders.example", ["you@quick.example"], b"Subject: by hand\r\n\r\nhi\r\n")
        for line in process.stdout:
            if "you@quick.example" in line:
                break
        assert "delivered" in line
        (url,) = re.findall(r"curl (http\S+)", said)
        with urllib.request.urlopen(url) as response:
            assert b"relay_queue_messages{" in response.read()
        (config,) = re.findall(r"export RELAY_CONFIG=(.*)", said)
        assert main(["health", "-c", config]) == main(["check", "-c", config]) == 0
        process.send_signal(signal.Signals[name])
        rest, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("--stay",)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_background_job_can_be_interrupted(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    """A script's `&` leaves SIGINT ignored; amid the story it ends it all the same, with 128 + n."""
    with demo(tmp_path, *arguments, background=True) as process:
        assert process.stdout
        assert any("ben@busy.example" in line for line in process.stdout)
        process.send_signal(signal.Signals[name])
        rest, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 128 + signal.Signals[name], rest
    assert "fates as expected" not in rest
    assert list(tmp_path.iterdir()) == []


def test_stay_in_the_background_ends_by_sigint(tmp_path: Path) -> None:
    """With 0, as in the foreground."""
    with demo(tmp_path, "--stay", code=QUICK, background=True) as process:
        assert process.stdout
        assert any(line.startswith("Next hops:") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, rest
    assert list(tmp_path.iterdir()) == []
