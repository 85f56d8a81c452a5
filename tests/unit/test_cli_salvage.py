"""`relay queue salvage`: beside a running relay and without one; what it says, to people and to programs."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path

import pytest
from fakes.spool import SMALL, filled, opened
from prometheus_client import generate_latest

from mailqueue import Queue, message_number
from relay.admin.commands import Commands
from relay.admin.control import Control
from relay.cli.main import main
from relay.observe.events import Events
from relay.observe.log import Log
from relay.observe.metrics import Metrics


def spool_with_damage(path: Path) -> tuple[Path, list[str]]:
    """A database that was moved aside, with three messages, the first of them altered; their ids."""
    names = asyncio.run(filled(path, "a", "b", "c"))
    aside = path / "damaged-20260101T000000"
    aside.mkdir()
    (path / "queue.db").rename(aside / "queue.db")
    db = sqlite3.connect(aside / "queue.db")
    db.execute("UPDATE entry SET sender='other@example.com' WHERE id=?", (message_number(names[0]) * 1024,))
    db.commit()
    db.close()
    return aside, names


def salvage(spool: Path, *arguments: str) -> int:
    return main(["queue", "salvage", "--spool", str(spool), *arguments])


def test_without_a_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot come back is named first, with why; then how many did. Again: nothing more."""
    aside, names = spool_with_damage(tmp_path / "spool")
    lost = (
        f"not brought back: {names[0]}: the checksum of an entry is wrong"
        " (reads as from <other@example.com> to b@example.net)\n"
    )
    assert salvage(tmp_path / "spool", "--all", "--dry-run") == 0
    assert capsys.readouterr().out == f"{lost}{aside}: 2 messages can be brought back, 1 not\n"
    assert salvage(tmp_path / "spool", "--all") == 0
    assert capsys.readouterr().out == f"{lost}{aside}: 2 messages brought back, 1 not\n"
    for named in (aside.name, str(aside), str(aside / "queue.db")):
        assert salvage(tmp_path / "spool", named) == 0
        assert capsys.readouterr().out == f"{lost}{aside}: 0 messages brought back, 2 were before, 1 not\n"
    assert main(["queue", "list", "--json", "--spool", str(tmp_path / "spool")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


async def test_beside_a_running_relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the relay that brings back, so its metric counts it and its log tells it."""
    spool = tmp_path / "spool"
    aside, names = await asyncio.to_thread(spool_with_damage, spool)
    metrics = Metrics()
    events = Events(metrics=metrics)
    async with opened(spool) as queue:
        control = Control(spool, Commands(queue, changed=events.operator), events)
        await control.start()
        try:
            code = await asyncio.to_thread(salvage, spool, "--all", "--json")
        finally:
            await control.stop()
    told = capsys.readouterr()
    assert code == 0, told.err
    lost, total = [json.loads(line) for line in told.out.splitlines()]
    assert (lost["queue_id"], lost["reason"]) == (names[0], "the checksum of an entry is wrong")
    nothing = dict.fromkeys(("known", "possibly_delivered", "held", "unreadable"), 0)
    assert total == {"directory": str(aside), "found": 2, "brought_back": 2, "lost": 1} | nothing
    assert b'relay_operator_actions_total{action="salvage"} 2.0' in generate_latest(metrics.registry)


def test_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It must be named, or all. One that cannot be read is said, and does not stop the rest."""
    spool = tmp_path / "spool"
    asyncio.run(filled(spool, "a"))
    assert salvage(spool) == 0
    assert capsys.readouterr().out == "no damaged database was moved aside\n"
    (spool / "damaged-1").mkdir()
    assert salvage(spool) == 64
    assert str(spool / "damaged-1") in capsys.readouterr().err
    assert salvage(spool, "damaged-2") == 66
    assert "damaged-2: there is no such directory" in capsys.readouterr().err
    assert salvage(spool, str(spool)) == 66
    (spool / "damaged-3").mkdir()
    (spool / "damaged-3" / "queue.db").write_bytes((spool / "queue.db").read_bytes())
    assert salvage(spool, "--all") == 66
    told = capsys.readouterr()
    assert "damaged-1 has no queue.db" in told.err
    assert "damaged-3: 0 messages brought back, 1 were before, 0 not" in told.out


def test_the_log_line_of_a_damaged_database_names_the_command(tmp_path: Path) -> None:
    spool, file = tmp_path / "spool", tmp_path / "log"
    asyncio.run(filled(spool, "a"))
    (spool / "queue.db").write_bytes(b"no database" * 1000)
    log = Log(os.open(file, os.O_WRONLY | os.O_CREAT))

    async def start() -> None:
        await (await Queue.open(spool, SMALL, Events(log))).close()

    asyncio.run(start())
    log.close()
    line = file.read_text()
    assert "is damaged (file is not a database) and was moved to" in line
    assert "`relay queue salvage` brings back what can be read" in line
