"""A campaign on a disk whose every write is logged, and a judgement on what power cuts could leave of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from faults.afterlife import judge
from faults.block_log import BlockLog
from faults.campaign import Campaign
from faults.checker import Findings
from faults.crash_states import Cut, Recording, copy
from faults.disk import Disk, make_image
from faults.history import Fault
from faults.leases import in_flight

NOTES = ("sent", "arrivals", "notices", "removals")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
BY_A_RELAY = 50  # one state in so many is judged by a relay


@contextmanager
def logged(
    directory: Path, kind: str, seed: int, module: str = "relay", **load: Any
) -> Iterator[tuple[Campaign, Disk, BlockLog]]:
    """A campaign whose disk and promises are logged; what the disk held before lies in directory / before."""
    directory.mkdir(parents=True, exist_ok=True)
    image = directory / "image"
    make_image(image, kind)
    copy(image, directory / "before")
    config = {"spool": str(directory / "disk/spool")}
    with (
        BlockLog(directory, image, NOTES) as log,
        Disk(directory, kind, image=log.disk) as disk,
        Campaign(directory / "campaign", seed, config=config, module=module, **load) as campaign,
    ):
        campaign.load.sent, campaign.load.removals = log.place / "sent", log.place / "removals"
        campaign.next_hop.arrivals, campaign.next_hop.notices = log.place / "arrivals", log.place / "notices"
        yield campaign, disk, log


async def judged(
    directory: Path, kind: str, recording: Recording, cuts: Sequence[Cut], random: Random
) -> Counter[int]:
    """A state for each cut; how many of them broke each rule of the checker.

    The images lie in memory: that they may vanish is no matter, and a sync of theirs costs nothing.
    """
    broken = Counter[int]()
    notes = directory / "notes"
    notes.mkdir()
    with TemporaryDirectory(dir=MEMORY) as memory:
        image = Path(memory) / "state"
        for number, cut in enumerate(recording.states(cuts, image, random)):
            for name in NOTES:
                (notes / name).write_bytes(recording.notes(name, cut.end))
            with Disk(directory / "state-of-disk", kind, image=image) as disk:
                spool = disk.place / "spool"
                by_relay = number % BY_A_RELAY == BY_A_RELAY - 1
                findings = relay_judges(spool, notes) if by_relay else await judge(spool, notes)
            if not findings.clean:
                print(f"state {number}, {cut}: {findings}")
                broken.update(findings.rules())
    return broken


def relay_judges(spool: Path, notes: Path) -> Findings:
    """A whole relay starts on it and delivers what it finds."""
    directory = notes / "campaign"
    directory.mkdir(exist_ok=True)
    for name in NOTES:
        (notes / name).rename(directory / name)
    (directory / "faults").unlink(missing_ok=True)
    leased, config = in_flight(spool), {"spool": str(spool)}
    with Campaign(directory, 1, config=config, clients=0, operator=False, slow=0.0) as campaign:
        counted = int(campaign.relay.metric("relay_possible_duplicates_total"))
        campaign.note(Fault("power cut", time.time(), leased, counted))
        return campaign.finish(30)
