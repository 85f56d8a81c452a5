"""Campaign 4, a disk that fails for a while: a failed sync, the end of the process, and later a power cut.

After a failed sync the kernel calls pages clean that the disk never got, so what is read is not what is
stored (the "fsyncgate" of 2018; ext4 and xfs still do it). The real thing: the disk refuses writes to the
log.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from faults.by_hand import Hand
from faults.crash_states import Recording
from faults.disk import FILE_SYSTEMS, extents
from faults.logged_campaign import judged, logged
from faults.sizes import is_full, new_seed, rounds

STATES, FULL_STATES = 2, 200
IO_ERROR = 74  # the exit code (sysexits.h, EX_IOERR)
SIZE = 100_000  # octets of a letter; a log is folded in when it is over 4 MiB and quiet
FILLING = 50  # letters
MANY = 400  # small ones


def salts(log: Path) -> bytes:
    """They change when a log is begun anew (https://www.sqlite.org/fileformat2.html#walformat)."""
    return log.read_bytes()[16:24]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", FILE_SYSTEMS if is_full() else FILE_SYSTEMS[:1])
async def test_a_failed_sync_and_a_later_power_cut(tmp_path: Path, kind: str) -> None:
    """The process ends; nothing that was answered 250 is lost or out of order, whenever the power fails.

    (Who waits for such a sync gets 451: test_failing_calls.py.)
    """
    states, random = rounds(STATES, FULL_STATES), Random(new_seed())
    with logged(tmp_path, kind, 1, clients=0, operator=False) as (campaign, disk, log):
        campaign.next_hop.turn_away()
        relay, hand = campaign.relay, Hand(campaign)
        wal = relay.spool / "queue.db-wal"
        assert hand.send(MANY) == [250] * MANY
        assert hand.send(FILLING, SIZE) == [250] * FILLING
        first = salts(wal)
        relay.wait_until(lambda: salts(wal) != first, "done with its log")
        assert hand.send(5) == [250] * 5  # over the old frames: no other block changes
        log.sicken(extents(wal))
        assert campaign.operate({"command": "hold", "all": True}) is None  # it changes pages all over
        assert relay.wait() == IO_ERROR
        log.sicken([])
        healed = time.monotonic()
        campaign.restart("failed sync")
        started = time.monotonic()
        assert hand.send(20) == [250] * 20
        disk.cut()
        relay.kill9()
        disk.replug()
        campaign.restart("power cut")
        campaign.next_hop.welcome()
        findings = campaign.finish(60)
        relay.kill9()
        assert "spool sync: [Errno 5]" in relay.log()
    print(f"{kind}: {findings}")
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] == MANY + FILLING + 5 + 20
    recording = Recording(tmp_path / "before", list(log.events()))
    cuts = recording.choose_between(healed, started, states, random)
    cuts += recording.choose_between(started, time.monotonic(), states // 2, random)
    assert not await judged(tmp_path, kind, recording, cuts, random)
