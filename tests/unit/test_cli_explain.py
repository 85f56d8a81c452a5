"""`relay explain`: from the running relay, or from the configuration when none runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.operator_queue import FakeQueue, row

from relay.admin.commands import Commands
from relay.admin.control import Control
from relay.cli.main import main
from relay.observe.events import Events


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A sandbox: everything is captured, so nothing asks DNS."""
    (tmp_path / "spool").mkdir()
    file = tmp_path / "relay.yaml"
    file.write_text(
        f"spool: {tmp_path / 'spool'}\nroutes: [{{name: sandbox, via: 'capture:{tmp_path / 'mail'}'}}]\n"
    )
    return file


def test_without_a_relay(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The route is known, the lane's state is not."""
    assert main(["explain", "bob@example.org", "-c", str(config)]) == 0
    text = capsys.readouterr().out
    assert "lane       route:sandbox (route: sandbox)" in text
    assert f"written to {config.parent / 'mail'} instead of being sent" in text
    assert "unknown: the relay does not run" in text
    assert main(["explain", "bob@example.org", "--from", "<>", "--json", "-c", str(config)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["lane"], facts["sender"]) == ("route:sandbox", "")


async def test_with_a_relay(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon answers, with the state of the lane and what waits in it."""

    async def explain(recipient: str, sender: str) -> dict[str, Any]:
        return {
            "recipient": recipient, "sender": sender, "lane": "mx:example.org", "route": "mx", "tls": "none",
            "concurrency": 1, "messages_per_connection": 2, "verdict": "hosts", "reply": "", "hosts": [],
        }  # fmt: skip

    fault = {"host": "smtp1[192.0.2.1]:25", "reason": "tls", "reply": "expired", "since": 0.0, "until": 0.0}
    trouble = {
        "state": "suspended", "reason": "connect", "reply": "refused", "since": 0.0, "until": 0.0,
        "faults": [fault],
    }  # fmt: skip
    commands = Commands(FakeQueue([row(1)]), lane_state=lambda lane: trouble, explain=explain)
    control = Control(config.parent / "spool", commands, Events())
    await control.start()
    for arguments in (["-c", str(config)], ["--spool", str(config.parent / "spool")]):
        assert await asyncio.to_thread(main, ["explain", "a@example.org", "--from", "c@d", *arguments]) == 0
        text = capsys.readouterr().out
        assert "a@example.org from c@d" in text
        assert "queued     1" in text
        assert "the next hop cannot be reached: refused (suspended, probing now)" in text
        assert "TLS with smtp1[192.0.2.1]:25 fails: expired (at fault since " in text
        assert "; asked again now)" in text
    await control.stop()


def test_what_cannot_be_explained(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """EX_DATAERR for no address, EX_UNAVAILABLE without relay and configuration."""
    assert main(["explain", "nobody", "--spool", str(config.parent / "spool")]) == 65
    assert main(["explain", "a@b", "--spool", str(config.parent / "spool")]) == 69
    assert "the relay does not run" in capsys.readouterr().err


def test_a_relay_that_cannot_be_asked(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Routes and DNS all the same; why the lane is not known is told as it is."""
    (config.parent / "spool").rmdir()
    (config.parent / "spool").write_text("a file")
    assert main(["explain", "a@example.org", "-c", str(config)]) == 0
    assert f"lane now   unknown: {config.parent}/spool: not a directory" in capsys.readouterr().out


def test_an_address_without_a_domain(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Completed as the front completes it."""
    config.write_text(f"{config.read_text()}\norigin: corp.example\n")
    assert main(["explain", "root", "-c", str(config)]) == 0
    assert "root@corp.example from <>" in capsys.readouterr().out


def test_the_sender_is_rewritten_first(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Completed, rewritten, and only then a route is looked for."""
    rules = "origin: corp.example\nrewrite: [{from: root@corp.example, to: ops@corp.example}]\n"
    config.write_text(config.read_text().replace("via:", "from: [ops@corp.example], via:") + rules)
    assert main(["explain", "bob@example.org", "--from", "root", "-c", str(config)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("bob@example.org from ops@corp.example, rewritten from root@corp.example\n")
    assert "route: sandbox" in text
