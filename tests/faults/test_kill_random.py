"""Campaign 1: kill -9 at random under mixed load. Promises 1, 3, 4 and 6, judged by checker.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults.campaign import Campaign
from faults.sizes import new_seed, rounds

KILLS, FULL_KILLS = 8, 1000
LONGEST_LIFE = 0.6  # s between a start and its kill
ENOUGH = 2  # letters a kill that were answered 250, or the load was none


@pytest.mark.timeout(14_400)
def test_killed_at_random_under_mixed_load(tmp_path: Path) -> None:
    """Small and large mail, many recipients, deferrals, bounces, an operator: nothing is lost or altered."""
    kills = rounds(KILLS, FULL_KILLS)
    with Campaign(tmp_path, new_seed()) as campaign:
        campaign.load.start()
        for number in range(1, kills + 1):
            time.sleep(campaign.random.random() * LONGEST_LIFE)  # the random moment itself
            campaign.kill()
            if number % 50 == 0:
                print(f"{number} kills, {campaign.load.acked} letters accepted", flush=True)
        campaign.load.stop()
        findings = campaign.finish(120)
    print(findings)
    assert findings.clean, str(findings)
    assert findings.figures["faults"] == kills
    assert campaign.load.acked > ENOUGH * kills
