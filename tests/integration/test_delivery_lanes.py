"""Lanes with the real queue on disk, real connections and a next hop on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fakes.delivering import LANE, Delivering, until, waiting
from fakes.sink import RecordingSink

from mailqueue import State
from relay.config.model import Retry

SOON = Retry(schedule=(0.2,), factor=1.0, jitter=0.0)


async def test_mail_flows_and_the_spool_is_empty_afterwards(tmp_path: Path) -> None:
    async with RecordingSink() as sink:
        async with Delivering(tmp_path / "spool", f"127.0.0.1:{sink.port}").running() as relay:
            await asyncio.gather(*(relay.accept(f"u{number}@example.org") for number in range(500)))
            await until(lambda: len(sink.messages) == 500 and not waiting(relay))
            assert relay.scheduler.tools.settling.held == 0
        assert sink.most_sessions <= 20
        assert len({message.recipients[0] for message in sink.messages}) == 500
        assert relay.events.count("bug") == 0


async def test_three_fates_in_one_message(tmp_path: Path) -> None:
    async with RecordingSink() as sink:
        sink.answers["b@example.org"] = ["451 4.2.1 later"]
        sink.answers["c@example.org"] = "550 5.1.1 unknown"
        async with Delivering(tmp_path / "spool", f"127.0.0.1:{sink.port}", retry=SOON).running() as relay:
            await relay.accept("a@example.org", "b@example.org", "c@example.org")
            await until(lambda: len(sink.messages) == 3 and not waiting(relay))
        told = [(message.sender, message.recipients) for message in sink.messages]
        assert told == [
            ("from@client.example", ["a@example.org"]),
            ("", ["from@client.example"]),
            ("from@client.example", ["b@example.org"]),
        ]
        assert b"unknown" in sink.messages[1].wire


async def test_a_next_hop_that_is_down_costs_no_attempt_and_gets_all_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with RecordingSink() as sink:
        await sink.shut()
        async with Delivering(tmp_path / "spool", f"127.0.0.1:{sink.port}").running() as relay:
            await asyncio.gather(*(relay.accept(f"u{number}@example.org") for number in range(2000)))
            assert relay.scheduler.lane_state(LANE)["state"] == "suspended"
            await until(lambda: not relay.queue.stats()[State.ACTIVE].entries)
            await sink.reopen()
            relay.scheduler.suspended.hasten()
            await until(lambda: len(sink.messages) == 2000 and not waiting(relay))
        assert relay.events.count("lane_resumed") == 1
        assert relay.events.count("attempted") == 2000


async def test_what_stop_gives_back_is_delivered_after_the_next_start(tmp_path: Path) -> None:
    async with RecordingSink() as sink:
        sink.delays["DATA"] = 30.0
        relay = Delivering(tmp_path / "spool", f"127.0.0.1:{sink.port}")
        async with relay.running():
            await asyncio.gather(*(relay.accept(f"u{number}@example.org") for number in range(50)))
            await until(lambda: bool(sink.open_sessions))
            assert relay.events.count("attempted") == 0
        assert sink.messages == []
        sink.delays.clear()
        async with relay.running():
            await until(lambda: len(sink.messages) == 50 and not waiting(relay))
        assert relay.events.count("ambiguous") == 0


async def test_a_capture_directory_takes_mail_and_answers_notify_success(tmp_path: Path) -> None:
    directory = tmp_path / "mail"
    directory.mkdir()
    async with Delivering(tmp_path / "spool", f"capture:{directory}").running() as relay:
        await relay.accept("a@example.org", options="NOTIFY=SUCCESS")
        await until(lambda: len(list(directory.glob("*.eml"))) == 2 and not waiting(relay))
    texts = sorted(path.read_bytes() for path in directory.glob("*.eml"))
    assert any(b"Action: delivered" in text for text in texts)


async def test_a_capture_directory_that_cannot_be_written_suspends_the_lane(tmp_path: Path) -> None:
    directory = tmp_path / "mail"
    directory.write_text("a file is in the way")
    async with Delivering(tmp_path / "spool", f"capture:{directory}").running() as relay:
        await relay.accept("a@example.org")
        await until(lambda: relay.scheduler.lane_state(LANE)["reason"] == "capture")
        directory.unlink()
        directory.mkdir()
        relay.scheduler.suspended.hasten()
        await until(lambda: len(list(directory.glob("*.eml"))) == 1 and not waiting(relay))
