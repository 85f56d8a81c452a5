"""Campaign 6 with a whole relay: damaged while it is down, started, salvaged while it runs.

Judged by checker.py: accepted = delivered + queued (quarantine) + named by salvage. No octet is altered.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from random import Random

import pytest
from faults import history
from faults.campaign import Campaign
from faults.client import Client
from faults.damage import CUT, LOG, SHARED, Damage, chosen
from faults.history import Fault, Removal
from faults.letter import LARGE, letter
from faults.load import operate
from faults.sizes import new_seed, rounds

from mailqueue.salvage import moved_aside

ROUNDS, FULL_ROUNDS = 2, 100
LETTERS = 25  # in the queue at each damage
PATIENCE = 60.0  # s for one round
_POSSIBLY = re.compile(r"unclean stop: (\d+) messages? (?:was|were) in flight")


@pytest.mark.timeout(14_400)
def test_a_damaged_relay_delivers_what_is_sound(tmp_path: Path) -> None:
    """A database after a clean stop, and a log after kill -9."""
    number = rounds(ROUNDS, FULL_ROUNDS)
    with Campaign(tmp_path, new_seed(), operator=False) as campaign:
        for place in range(number):
            campaign.next_hop.answers["MAIL"] = "451 4.3.2 wait"
            fill(campaign, place)
            damages = wound(campaign, place)
            del campaign.next_hop.answers["MAIL"]
            recover(campaign)
            campaign.note(Fault(str(damages), time.time(), None, 0, corrupts=True))
        possibly = sum(int(count) for count in _POSSIBLY.findall(campaign.relay.log()))
        campaign.note(Fault("all", time.time(), None, possibly, corrupts=True))
        findings = campaign.finish(30)
    print(findings)
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] >= number * LETTERS
    assert findings.figures["delivered"] > findings.figures["accepted"] / 3


def fill(campaign: Campaign, place: int) -> None:
    client = Client(campaign.relay.smtp_port)
    for count in range(LETTERS):
        size = campaign.random.choice((500, 500, 5000, 50_000, LARGE * 2))
        made = letter(f"{place}x{count}", Random(f"{place} {count}"), ("ok",) * (1 + count % 3), size=size)
        assert campaign.load.send(client, made).code == 250
    client.close()


def wound(campaign: Campaign, place: int) -> list[Damage]:
    """Stops the relay, damages three things. A log that is cut is as if less had been accepted: not here."""
    relay = campaign.relay
    if place % 2:
        relay.kill9()
    else:
        assert relay.terminate() == 0
    names = [path for path in relay.spool.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = {str(path.relative_to(relay.spool)): path.stat().st_size for path in names}
    sizes = {name: size for name, size in sizes.items() if name.startswith(("queue.db", "content/"))}
    damages: list[Damage] = []
    for damage in chosen(sizes, campaign.random, 100):
        is_cut = damage.kind in (*CUT, "appended") and not damage.file.startswith("content/")
        last = damage.file == LOG and damage.at > sizes[LOG] - 60_000  # its last commit: as a torn end
        if not is_cut and not last and damage.file != SHARED:
            damages.append(damage)
        if len(damages) == 3:
            break
    for damage in damages:
        damage.apply(relay.spool)
    return damages


def recover(campaign: Campaign) -> None:
    """Starts it as often as it ends, salvages what it moves aside, until all that can go is gone."""
    relay, deadline = campaign.relay, time.monotonic() + PATIENCE
    salvaged: set[Path] = set()
    while time.monotonic() < deadline:
        if not relay.running:
            relay.spawn()
        if not relay.running or not relay.ready():
            time.sleep(0.05)  # a poll of the condition above
            continue
        fresh = set(moved_aside(relay.spool)) - salvaged
        if fresh:
            salvage(campaign)
            salvaged |= fresh
        operate(relay.spool, {"command": "release", "states": ["hold"]})
        operate(relay.spool, {"command": "retry", "all": True})
        states = operate(relay.spool, {"command": "status"})
        if states and not fresh:
            tallies = states[0]["states"]
            left = sum(tally["messages"] for state, tally in tallies.items() if state != "quarantine")
            if not left:
                return
        time.sleep(0.1)  # a poll of the condition above
    raise AssertionError(f"not recovered in {PATIENCE} s:\n{relay.log()[-5000:]}")


def salvage(campaign: Campaign) -> None:
    done = campaign.relay.command("queue", "salvage", "--all", "--json")
    for line in done.stdout.splitlines():
        item = json.loads(line)
        if "queue_id" in item:
            history.append(campaign.named, Removal(item["queue_id"], time.time()))
