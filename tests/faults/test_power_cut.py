"""Campaign 3: the power fails under real ext4 and xfs. Promises 1, 3, 4 and 6, judged by checker.py.

The shutdown call of the file system drops all that it had not flushed. What the image holds then is what a
disk that honours flushes would hold. In two rounds of three the load has stopped before the cut: while mail
goes on coming in, the sync of the next letter hides that the one before had none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.tools import require_tool
from faults.campaign import Campaign
from faults.checker import Findings
from faults.disk import FILE_SYSTEMS, Disk
from faults.sizes import new_seed, rounds

CUTS, FULL_CUTS = 3, 300  # of each file system
CUTS_A_DISK = 50
LONGEST_LIFE = 0.8  # s under load before a cut
LONGEST_IDLE = 1.5  # s without load before a cut
LONG_IDLE = 6.0  # s: ext4 and xfs write their journal every 5 and 30 s by themselves
FULL_SIZE = 20  # cuts on a disk from which long idle times are worth their while
ENOUGH = 2  # letters a cut that were answered 250, or the load was none


@contextmanager
def campaign_on_disk(
    directory: Path, kind: str, seed: int, module: str = "relay"
) -> Iterator[tuple[Campaign, Disk]]:
    with Disk(directory, kind) as disk:
        config = {"spool": str(disk.place / "spool")}
        with Campaign(directory / "campaign", seed, config=config, module=module) as campaign:
            yield campaign, disk


def cut_power(campaign: Campaign, disk: Disk) -> None:
    disk.cut()
    campaign.relay.kill9()
    disk.replug()
    campaign.restart("power cut")


def live(campaign: Campaign, number: int, cuts: int) -> None:
    """The time between two cuts. Returns while the load works, or rests; of the rests, half without a next
    hop: then nothing at all is written after the last 250."""
    random = campaign.random
    time.sleep(random.random() * LONGEST_LIFE)  # the random moment itself
    if number % 3 == 0:
        return
    if number % 3 == 1:
        campaign.next_hop.turn_away()
        time.sleep(random.random() * LONGEST_LIFE / 4)
    campaign.load.rest()
    long = cuts >= FULL_SIZE and number % 10 == 0
    time.sleep(LONG_IDLE if long else random.random() * LONGEST_IDLE)


def survive(directory: Path, kind: str, seed: int, cuts: int) -> tuple[Findings, int]:
    """So many cuts of one disk's power; what the checker says, and how many letters were accepted."""
    with campaign_on_disk(directory, kind, seed) as (campaign, disk):
        campaign.load.start()
        for number in range(cuts):
            live(campaign, number, cuts)
            cut_power(campaign, disk)
            if number % 3 == 1:
                campaign.next_hop.welcome()
            if number % 3:
                campaign.load.resume()
        campaign.load.stop()
        return campaign.finish(120), campaign.load.acked


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_power_cuts_under_mixed_load(tmp_path: Path, kind: str) -> None:
    """Nothing is lost or altered, whether mail was coming in at the cut or not."""
    cuts, seed = rounds(CUTS, FULL_CUTS), new_seed()
    for number in range(0, cuts, CUTS_A_DISK):
        here = min(CUTS_A_DISK, cuts - number)
        findings, acked = survive(tmp_path / str(number), kind, seed + number, here)
        print(f"{kind}, {number + here} cuts: {findings}", flush=True)
        assert findings.clean, str(findings)
        assert findings.figures["faults"] == here
        assert acked > ENOUGH * here


def test_a_cut_convicts_a_relay_that_does_not_sync(tmp_path: Path) -> None:
    """Of 250s without a sync behind them nothing is left."""
    with campaign_on_disk(tmp_path, "xfs", new_seed(), "faults.sabotage_no_sync") as (campaign, disk):
        lose_mail(campaign, disk)
        assert campaign.finish(20, empty=False).rules() == {1}


def test_a_cut_convicts_eatmydata(tmp_path: Path) -> None:
    """The honest relay on syncs that return at once and do nothing."""
    with campaign_on_disk(tmp_path, "ext4", new_seed(), "faults.single_thread") as (campaign, disk):
        campaign.relay.kill9()
        campaign.relay.start([require_tool("eatmydata", "eatmydata")])
        lose_mail(campaign, disk)
        assert campaign.finish(20, empty=False).rules() == {1}


def lose_mail(campaign: Campaign, disk: Disk) -> None:
    """Mail that nobody takes, then a cut."""
    campaign.next_hop.turn_away()
    campaign.load.start()
    campaign.relay.wait_until(lambda: campaign.load.acked > 20, "in use")
    campaign.load.rest()
    cut_power(campaign, disk)
    campaign.next_hop.welcome()
    campaign.load.resume()
    campaign.load.stop()
