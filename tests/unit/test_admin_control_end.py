"""The end of the control socket."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fakes.operator_queue import FakeQueue

from relay.admin.commands import Commands
from relay.admin.control import Control
from relay.admin.place import NAME
from relay.observe.events import Events


async def nobody(recipient: str, sender: str) -> dict[str, object]:
    return {}


async def test_a_socket_that_cannot_be_removed_keeps_nobody_from_ending() -> None:
    """On a disk that has died the relay still stops as it should; the socket stays for the next start."""
    commands = Commands(
        FakeQueue(),
        lane_state=lambda lane: {},
        explain=nobody,
        facts=dict,
        changed=lambda action, entries, text: None,
    )
    with tempfile.TemporaryDirectory() as directory:  # a short path
        spool = Path(directory) / "spool"
        spool.mkdir()
        control = Control(spool, commands, Events(), None)
        await control.start()
        gone = spool.rename(Path(directory) / "gone")
        spool.write_text("no directory")
        await control.stop()
        assert (gone / NAME).is_socket()
