"""The relay with short time-outs: `python -m faults.impatient run ...`. Nothing else about it is changed.

A next hop has 0.6 s for each phase and 3 s after the dot; a DNS server 0.5 s, its answers are kept no longer
than it says; where places are short a silent client has 1 s.
"""

from __future__ import annotations

import sys
from dataclasses import fields

from relay.cli.main import main
from relay.delivery.timeouts import Timeouts
from relay.front import channel
from relay.routing import lookup
from relay.routing.query import DnsClient
from relay.routing.resolve import Resolver

PHASE, DOT = 0.6, 3.0  # s


def keywords(kind: type) -> dict[str, float]:
    """The defaults of its constructor."""
    found: dict[str, float] = kind.__init__.__kwdefaults__  # type: ignore[misc]
    return found


def run() -> None:
    """What the command line says; does not return."""
    short = tuple(DOT if field.name == "dot" else PHASE for field in fields(Timeouts))
    setattr(Timeouts.__init__, "__defaults__", short)  # noqa: B010  a plain assignment is an error to mypy
    channel.PRESSED_TIME, channel.PRESSED_AGE = 1.0, 6.0
    lookup.MIN_TTL = 0.0
    keywords(DnsClient).update(try_seconds=0.5, question_seconds=1.2)
    keywords(Resolver).update(seconds=4.0)
    sys.exit(main())


if __name__ == "__main__":
    run()
