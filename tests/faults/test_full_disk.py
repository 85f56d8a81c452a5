"""Campaign 5, a disk without room: it drains without a repetition, and a relay also starts on it.

tests/integration/test_trouble.py has the client's side: 452 at MAIL and in mid-DATA, and readiness.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest
from faults.by_hand import Hand
from faults.campaign import Campaign
from faults.client import Client
from faults.disk import MIB, Disk
from faults.history import Fault
from faults.leases import in_flight
from faults.letter import Letter, letter
from faults.sizes import new_seed, rounds

QUEUED, FULL_QUEUED = 200, 10_000  # letters
FULL = "452 4.3.1 "


def small(name: str, random: Random) -> Letter:
    return letter(name, random, size=random.randint(100, 4000))


def fill(disk: Disk) -> Path:
    """Not one octet is left."""
    filler = disk.place / "filler"
    with filler.open("ab", buffering=0) as file:
        size = MIB
        while size:
            try:
                os.posix_fallocate(file.fileno(), file.tell(), size)
                file.seek(0, os.SEEK_END)
            except OSError:
                size //= 2
    return filler


def start_on(campaign: Campaign, kind: str) -> None:
    """campaign.restart, on a disk where a relay cannot get ready."""
    relay, at, leased = campaign.relay, time.time(), in_flight(campaign.relay.spool)
    relay.spawn()
    relay.wait_until(lambda: relay.status("/healthz") == 200, "alive")
    counted = int(relay.metric("relay_possible_duplicates_total"))
    campaign.note(Fault(kind, at, leased, counted))


def refusal(campaign: Campaign) -> str:
    return Hand(campaign).until_refused(1)


@pytest.mark.timeout(600)
def test_a_full_disk_drains_and_is_started_on(tmp_path: Path) -> None:
    """A relay starts on a disk that was filled; new mail gets 452, all that is queued goes out once."""
    queued = rounds(QUEUED, FULL_QUEUED)
    with Disk(tmp_path, "ext4", size=256 * MIB) as disk:
        config = {"spool": str(disk.place / "spool"), "limits": {"sessions": 200, "spool_reserve": "1MiB"}}
        with Campaign(
            tmp_path / "campaign", new_seed(), config=config, slow=0.0,
            clients=8, make=small, pause=0.0, operator=False,
        ) as campaign:  # fmt: skip
            relay = campaign.relay
            campaign.next_hop.turn_away()
            campaign.load.start()
            relay.wait_until(lambda: campaign.load.acked >= queued, "in use", 300)
            campaign.load.stop()
            relay.kill9()
            filler = fill(disk)
            assert disk.free() < MIB
            start_on(campaign, "killed on a full disk")
            if (relay.spool / "ballast").exists():  # the log was folded in, and so there was room again
                fill(disk)
            relay.wait_until(lambda: relay.status("/readyz") == 503, "not ready")
            assert refusal(campaign).startswith(FULL)
            campaign.next_hop.welcome()
            findings = campaign.finish(120)
            filler.unlink()
            relay.wait_until(relay.ready, "ready")
            assert Hand(campaign).send(1) == [250]
    print(findings)
    assert findings.clean, str(findings)
    assert findings.figures["delivered"] == findings.figures["accepted"] >= queued
    assert findings.figures["duplicated"] == 0


def test_no_inodes(tmp_path: Path) -> None:
    """Octets are free and files cannot be made: as a full disk, also for letters that need no file."""
    with Disk(tmp_path, "ext4", options=("-N", "512")) as disk:
        config = {"spool": str(disk.place / "spool")}
        with Campaign(tmp_path / "campaign", 1, config=config, clients=0, operator=False) as campaign:
            relay, hand = campaign.relay, Hand(campaign)
            assert hand.send(2, 200_000) == [250] * 2
            content = relay.spool / "content"
            relay.wait_until(
                lambda: not any(content.iterdir()), "done with these, whose inodes are free then"
            )
            client = Client(relay.smtp_port)
            made = use_up_inodes(disk)
            assert hand.one(client, 200_000).text.startswith(FULL)  # before the relay has looked again
            client.close()
            relay.wait_until(lambda: "error: spool content: [Errno 28]" in relay.log(), "saying so")
            relay.wait_until(lambda: relay.status("/readyz") == 503, "not ready")
            assert hand.until_refused(1).startswith(FULL)
            for path in made:
                path.unlink()
            relay.wait_until(relay.ready, "ready")
            assert hand.send(2, 200_000) == [250] * 2
            findings = campaign.finish(30)
    assert findings.clean, str(findings)
    assert findings.figures["delivered"] == hand.accepted


def use_up_inodes(disk: Disk) -> list[Path]:
    made: list[Path] = []
    for number in range(1000):
        path = disk.place / f"empty-{number}"
        try:
            path.touch()
        except OSError:
            return made
        made.append(path)
    raise AssertionError("there are too many inodes")
