"""Campaign 7: the remote. Drops, resets, silence, nonsense and worse at any reply, in clear and over TLS.

Promises 1, 3, 4, 5 and 6, judged by checker.py: nothing is lost, nobody is bounced whom no next hop has
refused, and what arrives twice was counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.flood import small
from faults.history import Fault
from faults.network import Treatment, in_namespace, treated
from faults.remote import Remote
from faults.sizes import is_full, new_seed, rounds

SHARE = 0.04  # of the replies are faults
TREATMENTS: list[tuple[Treatment, float]] = [("drop", 1.0), ("reset", 1.0), ("drop", 0.3), ("reset", 0.1)]
NUDGE = 0.3  # s between two nudges of what was put off
KINDS = 40  # of faults at least, by stage and kind
LETTERS = 50  # accepted at least
PATIENCE = 60.0  # s more for these, on a slow machine


@pytest.mark.timeout(2000)
def test_next_hops_that_do_what_no_server_should(tmp_path: Path) -> None:
    seconds = rounds(3, 300)
    with Remote(tmp_path, new_seed(), clients=8) as campaign:
        campaign.hostile(SHARE)
        campaign.load.start()
        bear(campaign, seconds, lambda: len(campaign.done) > KINDS)
        campaign.load.stop()
        findings = campaign.judged(60)
        bounced = campaign.wrongly_bounced()
        done = campaign.done
    print(findings)
    print(f"{done.total()} faults of {len(done)} kinds: {by_kind(done)}")
    assert findings.clean, str(findings)
    assert bounced == []
    assert len(done) > KINDS, done
    assert findings.figures["possible duplicates"] >= findings.figures["duplicated"]


def bear(campaign: Remote, seconds: float, enough: Callable[[], bool] = lambda: True) -> None:
    """That long, and until it was enough; what was put off is tried again and again."""
    begun = time.monotonic()
    while (spent := time.monotonic() - begun) < seconds or (not enough() and spent < seconds + PATIENCE):
        campaign.hurry()
        time.sleep(NUDGE)


@pytest.mark.timeout(2000)
def test_links_that_drop_and_reset(tmp_path: Path) -> None:
    """The packets to and from a next hop vanish or are answered with RST, some of them or all: as cut cables,
    firewalls and crashed hosts do it."""
    campaign = Remote(tmp_path, new_seed(), clients=4, make=small, pause=0.05)
    campaign.relay.alone = True  # the fork server lives in another network

    def work() -> None:
        with campaign:
            bear_links(campaign)

    in_namespace(work)


def bear_links(campaign: Remote) -> None:
    seconds = 20.0 if is_full() else 0.5
    campaign.load.start()
    for _ in range(rounds(1, 4)):
        for treatment, share in TREATMENTS:
            with treated(campaign.next_hop.port, treatment, share):
                bear(campaign, seconds)
            campaign.note(Fault(f"{share} {treatment}", in_flight=None))
    bear(campaign, 0, lambda: campaign.load.acked > LETTERS)
    campaign.load.stop()
    findings = campaign.judged(60)
    print(findings)
    assert findings.clean, str(findings)
    assert campaign.wrongly_bounced() == []
    assert campaign.load.acked > LETTERS


def by_kind(done: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
