"""`relay queue ...` against a real queue: through the daemon's socket, and directly when nobody runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.tools import require_root

from mailqueue import Message, Options, Queue, Recipient
from relay.admin.commands import Commands
from relay.admin.control import Control
from relay.cli.main import main
from relay.cli.table import Layout, head, row
from relay.observe.events import Events

OPTIONS = Options(reserve=0, ballast=0)
CONTENT = b"Subject: hello\r\n\r\n..dot\r\n"


def message(sender: str, *recipients: str, lane: str = "mx:example.org", size: int = 0) -> Message:
    chosen = [Recipient(address) for address in recipients or ("bob@example.org",)]
    return Message(sender, {lane: chosen}, CONTENT + b"x" * size + b"\r\n" * bool(size))


async def filled(spool: Path, messages: Sequence[Message]) -> Queue:
    """An open queue that holds the messages."""
    queue = await Queue.open(spool, OPTIONS)
    await asyncio.gather(*(queue.accept(each) for each in messages))
    return queue


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool that nobody runs, with three messages."""

    async def make() -> None:
        messages = (
            message("alice@corp.example"),
            message("bill@shop.example", "c@d.example", "e@f.example", lane="route:billing"),
            message(""),
        )
        await (await filled(tmp_path / "spool", messages)).close()

    asyncio.run(make())
    return tmp_path / "spool"


def listed(spool: Path, capsys: pytest.CaptureFixture[str], *filters: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["queue", "list", "--json", "--spool", str(spool), *filters]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def run(spool: Path, action: str, *arguments: str) -> int:
    return main(["queue", action, "--spool", str(spool), *arguments])


def test_list_of_a_sleeping_spool(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, by filter, for people and for programs."""
    items = listed(spool, capsys)
    assert [item["sender"] for item in items] == ["alice@corp.example", "bill@shop.example", "MAILER-DAEMON"]
    assert [each["address"] for each in items[1]["recipients"]] == ["c@d.example", "e@f.example"]
    assert len(listed(spool, capsys, "--from", "@shop.example")) == 1
    assert len(listed(spool, capsys, "--from", "<>")) == 1
    assert len(listed(spool, capsys, "--to", "e@f.example")) == 1
    assert len(listed(spool, capsys, "--lane", "mx:example.org")) == 2
    assert len(listed(spool, capsys, "--state", "hold")) == 0
    assert len(listed(spool, capsys, "--state", "incoming", "--state", "hold")) == 3
    assert len(listed(spool, capsys, "--older-than", "1h")) == 0
    assert len(listed(spool, capsys, "--younger-than", "1h")) == 3
    assert len(listed(spool, capsys, items[0]["queue_id"], items[2]["queue_id"])) == 2
    assert run(spool, "list") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("ID ")
    assert "c@d.example (+1)" in rows[1]
    assert "<>" in rows[2]
    assert run(spool, "list", "--state", "hold") == 0
    assert capsys.readouterr().out == "nothing matches\n"
    assert run(spool, "list", "--to", "example.org") == 64
    assert "write @example.org" in capsys.readouterr().err


NOW = 1000.0
ITEM: dict[str, Any] = {
    "queue_id": "1k0t7qtbh93", "arrival_time": 940, "message_size": 4000, "state": "incoming", "attempts": 0,
    "next_attempt": 940.0, "sender": "alice@corp.example", "recipients": [{"address": "b@d.example"}],
}  # fmt: skip
SUSPENDED = {"state": "suspended", "reason": "connect", "reply": "no route", "since": 950.0, "until": 1029.0}


@pytest.mark.parametrize("columns", [40, 80, 100, 179, 180, 240])
def test_the_list_fits_the_terminal(columns: int) -> None:
    """No line is longer than a terminal from 80 columns; below 180 the reply has a line of its own."""
    layout = Layout.of(columns)
    recipients = [{"address": "b" * 90, "delay_reason": "451 " + "x" * 200}, {"address": "c@d.example"}]
    lines = [head(layout), *row(ITEM | {"recipients": recipients}, NOW, layout).splitlines()]
    assert len(lines) == (3 if columns < 180 else 2)
    assert max(map(len, lines)) <= max(columns, 80)
    assert "… (+1)" in lines[1]


def test_the_list_says_why_untried_mail_waits() -> None:
    """Behind a suspended lane: its trouble in place of a reply, not before its probe. Held: neither."""
    text = row(ITEM | {"lane_state": SUSPENDED}, NOW, Layout())
    assert "in 29s" in text
    assert "the next hop cannot be reached: no route" in text
    assert row(ITEM, NOW, Layout()).split()[6] == "now"
    held = row(ITEM | {"state": "hold", "next_attempt": None, "lane_state": SUSPENDED}, NOW, Layout())
    assert "no route" not in held


def test_changes_of_a_sleeping_spool(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """hold, release, retry and drop do what they say and count it."""
    first = listed(spool, capsys)[0]["queue_id"]
    assert run(spool, "hold", first) == 0
    assert capsys.readouterr().out == "1 message on hold\n"
    assert [item["queue_id"] for item in listed(spool, capsys, "--state", "hold")] == [first]
    assert run(spool, "release", "--state", "hold", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"action": "release", "count": 1, "dry_run": False}
    assert run(spool, "retry", "--all") == 0
    assert run(spool, "drop", "--all", "--dry-run") == 0
    assert capsys.readouterr().out == "3 messages will be tried now\n3 messages match\n"
    assert run(spool, "drop", "--from", "@shop.example") == 0
    assert len(listed(spool, capsys)) == 2
    assert run(spool, "drop", "--all", "--yes") == 0
    capsys.readouterr()
    assert run(spool, "list") == 0
    assert capsys.readouterr().out == "the queue is empty\n"


@pytest.mark.parametrize("action", ["retry", "hold", "release", "drop"])
def test_nothing_is_changed_by_accident(spool: Path, action: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without ids, filter or --all: EX_USAGE and an untouched queue."""
    assert run(spool, action) == 64
    assert "--all" in capsys.readouterr().err
    assert len(listed(spool, capsys)) == 3


def test_drop_asks_a_person(
    spool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the count is shown first, and only yes means yes."""
    asked: list[str] = []
    replies = iter(["n", "", "y"])

    def reply(text: str) -> str:
        asked.append(text)
        return next(replies)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", reply)
    for left in (3, 3, 0):
        assert run(spool, "drop", "--all") == 0
        assert len(listed(spool, capsys)) == left
    assert asked == ["Remove 3 messages for ever, without a bounce? [y/N] "] * 3


def test_show_of_a_sleeping_spool(spool: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The story, the facts, the message itself; what is not there is EX_NOINPUT, nonsense EX_USAGE."""
    assert run(spool, "list", "--json") == 0
    name = json.loads(capfdbinary.readouterr().out.splitlines()[0])["queue_id"]
    assert run(spool, "show", name) == 0
    text = capfdbinary.readouterr().out.decode()
    assert f"Message {name}\n  from      alice@corp.example\n" in text
    assert "waiting for the first attempt" in text
    assert run(spool, "show", name, "--json") == 0
    assert json.loads(capfdbinary.readouterr().out)["queue_id"] == name
    assert run(spool, "show", name, "--content") == 0
    assert capfdbinary.readouterr().out == b"Subject: hello\r\n\r\n.dot\r\n"
    assert run(spool, "show", "0aaaaaaaaaa") == 66
    assert run(spool, "show", "!!") == 64
    assert b"not in the queue" in capfdbinary.readouterr().err


def test_lanes_and_status(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts by lane and by state."""
    assert run(spool, "lanes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["LANE", "WAITING"],
        ["mx:example.org", "2"],
        ["route:billing", "1"],
    ]
    assert run(spool, "lanes", "--json") == 0
    assert [json.loads(line)["lane"] for line in capsys.readouterr().out.splitlines()] == [
        "mx:example.org",
        "route:billing",
    ]
    assert run(spool, "status") == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["incoming", "3"]
    assert run(spool, "drop", "--all", "--yes") == 0
    capsys.readouterr()
    assert run(spool, "lanes") == run(spool, "list") == 0
    assert capsys.readouterr().out == "nothing is queued\nthe queue is empty\n"


async def test_a_locked_spool_without_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody owns it but does not listen: EX_UNAVAILABLE, in words."""
    queue = await filled(tmp_path / "spool", [])
    assert await asyncio.to_thread(run, tmp_path / "spool", "list") == 69
    assert "nobody answers at its control socket" in capsys.readouterr().err
    await queue.close()


@asynccontextmanager
async def running(spool: Path, messages: Sequence[Message], events: Events) -> AsyncIterator[Queue]:
    """A queue with its control socket, as in a daemon."""
    queue = await filled(spool, messages)
    control = Control(spool, Commands(queue, changed=events.operator), events)
    await control.start()
    try:
        yield queue
    finally:
        await control.stop()
        await queue.close()


async def test_through_the_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same commands, with a running relay; it learns of the changes."""
    events, spool = Events(), tmp_path / "spool"
    async with running(spool, [message("alice@corp.example"), message("")], events):
        items = await asyncio.to_thread(listed, spool, capsys)
        assert [item["sender"] for item in items] == ["alice@corp.example", "MAILER-DAEMON"]
        assert await asyncio.to_thread(run, spool, "hold", items[0]["queue_id"]) == 0
        assert capsys.readouterr().out == "1 message on hold\n"
        assert events.metrics.operator.values[("hold",)] == 1
        assert await asyncio.to_thread(run, spool, "show", items[0]["queue_id"]) == 0
        assert "on hold until released" in capsys.readouterr().out
        assert await asyncio.to_thread(run, spool, "show", "0aaaaaaaaaa") == 66


MEASURED = """
import re, sys
from relay.cli.main import main
code = main(["queue", "list", "--json", "--spool", sys.argv[1]])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""
ROWS = 5000


def measured(spool: Path) -> tuple[int, int]:
    """Lines and the peak of resident memory (KiB) of a process that lists the spool."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(spool)],
        capture_output=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout.count(b"\n"), int(done.stderr.split()[-1])


async def test_a_long_list_needs_little_memory(tmp_path: Path) -> None:
    """Many rows through the socket: the command's memory does not grow with them."""
    spool = tmp_path / "spool"
    async with running(spool, [message("a@b", lane=f"mx:d{n % 7}") for n in range(10)], Events()) as queue:
        few = await asyncio.to_thread(measured, spool)
        long = (message("a@b", f"{n:04}{'x' * 50}@example.org") for n in range(ROWS))
        await asyncio.gather(*(queue.accept(each) for each in long))
        many = await asyncio.to_thread(measured, spool)
    assert (few[0], many[0]) == (10, ROWS + 10)
    assert many[1] - few[1] < 1500


STRANGER = """
import os, sys
import relay.cli.direct, relay.cli.operate
from relay.cli.main import main
os.setgroups([])
os.setgid(65533)
os.setuid(65533)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def reachable(spool: Path) -> Iterator[Path]:
    """The spool where everybody can come to it, unlike in pytest's own directories."""
    with tempfile.TemporaryDirectory(prefix="relay-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(shutil.move(spool, Path(folder) / "spool"))


def test_root_leaves_no_files_of_its_own(reachable: Path) -> None:
    """As root the command becomes the spool's owner first; others are refused."""
    require_root("files of two users")
    spool = reachable
    nobody = 65534
    for path in (spool, *spool.rglob("*")):
        os.chown(path, nobody, nobody)
    command = [sys.executable, "-m", "relay", "queue", "drop", "--all", "--yes", "--spool", str(spool)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)
    assert (done.returncode, done.stdout) == (0, "3 messages removed\n"), done.stderr
    assert {path.stat().st_uid for path in (spool, *spool.rglob("*"))} == {nobody}
    stranger = [sys.executable, "-c", STRANGER, *command[3:]]
    refused = subprocess.run(stranger, capture_output=True, text=True, timeout=30, check=False, env=env)
    assert refused.returncode == 77, refused.stderr
    assert "belongs to user nobody: run this as that user or as root" in refused.stderr
    spool.parent.chmod(0o700)
    shut = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=env)
    assert (shut.returncode, shut.stderr.count("\n")) == (77, 1)
    assert f"{spool}: user nobody, whose it is, cannot come to it" in shut.stderr
