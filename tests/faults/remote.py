"""A campaign about next hops: three of them, in clear, with STARTTLS and with implicit TLS; each a lane."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from fakes.relay_process import merged
from faults.campaign import Campaign, configuration
from faults.checker import Findings
from faults.history import Fault
from faults.hostile_hop import HostileHop, Tls
from faults.letter import word_of

BOUNCED = {"never", "refused"}  # first words of addresses that a next hop may refuse for good
MODES: tuple[Tls, ...] = ("off", "starttls", "implicit")


class Remote(Campaign):
    """hops: a.example, b.example, c.example and the rest, in this order; the rest goes to the first."""

    def __init__(self, directory: Path, seed: int, *, module: str = "faults.impatient", **more: Any) -> None:
        super().__init__(directory, seed, module=module, **more)
        self.hops = [
            HostileHop(directory, Random(f"{seed} {tls}"), tls=tls, noted=self.note) for tls in MODES
        ]
        self.unused, self.next_hop = self.next_hop, self.hops[0]
        clear, starttls, implicit = (f"127.0.0.1:{hop.port}" for hop in self.hops)
        routes = [
            {"name": "b", "to": ["b.example"], "via": [starttls], "tls": "require"},
            {"name": "c", "to": ["c.example"], "via": [f"smtps://{implicit}"], "tls": "require"},
            {"name": "rest", "via": [clear], "tls": "none"},
        ]
        self.relay.configure(merged(configuration(self.next_hop.port), {"routes": routes}))

    def __enter__(self) -> Remote:
        for hop in self.hops[1:]:
            hop.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        for hop in self.hops[1:]:
            hop.__exit__()
        self.unused._reserved.close()

    def hostile(self, share: float) -> None:
        for hop in self.hops:
            hop.hostile = share

    @property
    def done(self) -> Counter[str]:
        """How often each fault was done."""
        return sum((Counter(dict(hop.done)) for hop in self.hops), Counter())  # they are at work in threads

    def hurry(self) -> None:
        """As an operator would: what waits is tried now, also where a next hop was in trouble."""
        self.operate({"command": "retry", "all": True})

    def judged(self, seconds: float) -> Findings:
        """The end. Next hops are honest from here on; every dot without a clear answer was counted."""
        self.hostile(0.0)
        self.drain(seconds)
        counted = int(self.relay.metric("relay_ambiguous_total"))
        self.note(Fault("what the relay counted as ambiguous", counted=counted))
        return self.finish(seconds)

    def wrongly_bounced(self) -> list[str]:
        """Who was given up although no next hop had refused them."""
        return [
            address
            for notice in self.history().notices
            for address in notice.recipients
            if word_of(address) not in BOUNCED
        ]
