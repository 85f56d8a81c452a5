"""Campaign 8: DNS. Every kind of trouble at random, and names that are odd.

Promises 1, 3 and 5: nobody is bounced but for what was said twice. A resolver that is not there for the whole
life of a message: unit/test_delivery_suspension.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from fakes.relay_process import merged
from faults.campaign import Campaign, configuration
from faults.flood import small
from faults.hostile_dns import HostileDns
from faults.letter import Letter
from faults.sizes import new_seed, rounds

from relay.demo.dns import Record

SHARE = 0.4  # of the DNS answers
NUDGE = 0.3  # s
KINDS = 10  # of trouble at least
LETTERS = 50  # accepted at least
PATIENCE = 60.0  # s more for these, on a slow machine
HERE: list[Record] = [("A", "127.0.0.1")]
NAMES = ("plain", "implicit", "many", "chain", "loop", "gone", "null")
BOUNCED = {"gone", "null"}


def records() -> dict[str, Iterable[Record]]:
    many: list[Record] = [("MX", f"{n} x{n}.many.example.") for n in range(2, 502)]
    chain: dict[str, Iterable[Record]] = {}
    for n in range(8):
        chain[f"c{n}.chain.example"] = [("CNAME", f"c{n + 1}.chain.example.")]
    return {
        "plain.example": [("MX", "10 mx.plain.example."), ("MX", "20 gone.plain.example.")],
        "mx.plain.example": HERE,
        "implicit.example": HERE,
        "sender.example": HERE,
        "ops.example": HERE,
        "many.example": [("MX", "1 mx.plain.example."), *many],
        "chain.example": [("CNAME", "c0.chain.example.")],
        **chain,
        "c8.chain.example": [("MX", "10 mx.plain.example.")],
        "loop.example": [("CNAME", "round.loop.example.")],
        "round.loop.example": [("CNAME", "loop.example.")],
        "null.example": [("MX", "0 .")],
    }  # fmt: skip


def addressed(name: str, random: Random) -> Letter:
    """To one or two of these domains."""
    made = small(name, random)
    places = random.sample(NAMES, random.randint(1, 2))
    return replace(made, recipients=tuple(f"ok.{n}.{name}@{place}.example" for n, place in enumerate(places)))


@pytest.mark.timeout(2000)
def test_dns_in_every_kind_of_trouble(tmp_path: Path) -> None:
    """SERVFAIL, time-outs, lame and false answers, truncation, loops, chains, 500 MX: mail waits, and leaves
    when it is over."""
    seed = new_seed()
    campaign = Campaign(tmp_path, seed, module="faults.impatient", clients=4, make=addressed)
    with HostileDns(records(), Random(f"{seed} dns")) as dns:
        mx = {"routes": [], "mx": {"port": campaign.next_hop.port}, "dns": {"servers": [dns.address]}}
        campaign.relay.configure(merged(configuration(campaign.next_hop.port), mx))
        with campaign:
            dns.share = SHARE
            campaign.load.start()
            end = time.monotonic() + rounds(3, 300)
            while (now := time.monotonic()) < end or (not enough(campaign, dns) and now < end + PATIENCE):
                campaign.operate({"command": "retry", "all": True})
                time.sleep(NUDGE)
            campaign.load.stop()
            dns.share = 0.0
            dns.set("loop.example", HERE)
            findings = campaign.finish(120)
            bounced = {address for notice in campaign.history().notices for address in notice.recipients}
    print(findings)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(dns.done.items())))
    assert findings.clean, str(findings)
    assert {address.partition("@")[2].partition(".")[0] for address in bounced} == BOUNCED
    assert enough(campaign, dns), dns.done


def enough(campaign: Campaign, dns: HostileDns) -> bool:
    return len(dns.done) > KINDS and campaign.load.acked > LETTERS
