"""Campaign 4: what reordering and torn sectors may leave of a spool. Promises 1, 3, 4, 6 and 12.

A relay works on a disk whose every write and flush is logged, together with each 250 and each delivery. From
the log come the states that a power cut could leave, and each is judged by the checker: what had been
answered 250 before the cut is there, once, with its bytes.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from faults.campaign import Campaign
from faults.crash_states import Cut, Recording
from faults.disk import FILE_SYSTEMS
from faults.logged_campaign import judged, logged
from faults.sizes import new_seed, rounds

STATES, FULL_STATES = 9, 2000  # of each file system
STATES_A_LIFE = 250
BURST, REST = 0.4, 0.9  # s under load, s without
ENOUGH = 3  # letters a burst that were answered 250, however slow the machine
BURSTS, FULL_BURSTS = 2, 5
LARGE_LIFE = 100  # states from which on a life is a long one


def live(campaign: Campaign, bursts: int) -> None:
    """Load and rest in turns; in every second turn nothing is taken by the next hop, so nothing is written
    after the last 250."""
    campaign.load.start()
    for number in range(bursts):
        if number % 2:
            campaign.next_hop.turn_away()
        work(campaign)
        campaign.load.rest()
        time.sleep(REST)  # and not at work
        campaign.next_hop.welcome()
        campaign.load.resume()
    campaign.load.stop()


def work(campaign: Campaign) -> None:
    """A burst."""
    wanted = campaign.load.acked + ENOUGH
    time.sleep(BURST)  # the load at work
    campaign.relay.wait_until(lambda: campaign.load.acked >= wanted, "in use")


def recorded(directory: Path, kind: str, seed: int, bursts: int, module: str = "relay") -> Recording:
    """A life under load, and its end."""
    with logged(directory, kind, seed, module) as (campaign, _, log):
        live(campaign, bursts)
        campaign.relay.kill9()
    return Recording(directory / "before", list(log.events()))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", FILE_SYSTEMS)
async def test_states_after_a_power_cut(tmp_path: Path, kind: str) -> None:
    """Nothing is lost or altered, whichever of the unflushed writes reached the disk."""
    states, seed, all_cuts = rounds(STATES, FULL_STATES), new_seed(), list[Cut]()
    for number in range(0, states, STATES_A_LIFE):
        count, directory = min(STATES_A_LIFE, states - number), tmp_path / str(number)
        recording = recorded(directory, kind, seed + number, FULL_BURSTS if count >= LARGE_LIFE else BURSTS)
        random = Random(f"{seed + number} states")
        cuts = recording.choose(count, random)
        broken = await judged(directory, kind, recording, cuts, random)
        all_cuts += cuts
        idle, lossy = sum(cut.idle for cut in all_cuts), sum(cut.lost > 0 for cut in all_cuts)
        print(
            f"{kind}: {len(all_cuts)} states, {idle} in idle time, {lossy} with lost or torn writes; the last"
            f" life: {len(recording.acks)} letters accepted, {len(recording.events)} events",
            flush=True,
        )
        assert not broken
        (directory / "blocks").unlink()
    assert len(all_cuts) == states
    assert 3 * idle >= states
    assert lossy >= states // 10  # of a few they may all be whole


async def test_states_convict_a_relay_that_does_not_sync(tmp_path: Path) -> None:
    recording = recorded(tmp_path, "ext4", new_seed(), 1, "faults.sabotage_no_sync")
    random = Random(1)
    broken = await judged(tmp_path, "ext4", recording, recording.choose(3, random), random)
    assert 1 in broken
