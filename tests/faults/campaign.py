"""What every campaign is made of: one relay, one next hop, one load, faults, and in the end the checker.

    with Campaign(directory, seed) as campaign:
        campaign.load.start()
        ...
        campaign.kill()                 # or another fault, then campaign.note(Fault(...))
        campaign.load.stop()
        findings = campaign.finish()    # drains, checks, writes history.json and report.txt

The seed decides the mail, the next hop's delays and the campaign's own choices; what the scheduler of the
machine decides is not repeated.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Self

from fakes.relay_process import merged
from faults import history
from faults.checker import Findings, check
from faults.fork_server import PATH, ForkedRelay, ForkServer
from faults.history import Arrival, Fault, History, Notice, Removal, Sent, Waiting
from faults.leases import in_flight
from faults.letter import HOSTNAME, POSTMASTER, id_of, read_notice
from faults.load import Load, operate
from faults.next_hop import SLOW, NextHop

from mailqueue.entry import State
from relay.observe.spool import STATE_NAMES

IMPATIENT = {"schedule": ["1s"], "factor": 1, "cap": "1s", "jitter": 0, "after_crash": "1s"}
_IN_FLIGHT = re.compile(r"unclean stop: (\d+) messages? (?:was|were) in flight")
NUDGE = 0.5  # s between two nudges while the queue drains
HELD = STATE_NAMES[State.HELD]


class Campaign:
    """directory: everything it writes goes there. module: what runs instead of the relay (a saboteur)."""

    def __init__(
        self,
        directory: Path,
        seed: int,
        *,
        config: Mapping[str, Any] | None = None,
        module: str = "relay",
        environment: Mapping[str, str] | None = None,
        slow: float = SLOW,
        **load: Any,
    ) -> None:
        """config: merged over the campaign's own; slow: see NextHop; load: see Load."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.random = Random(seed)
        self.faults = directory / "faults"
        self.named = directory / "named"
        self.next_hop = NextHop(directory, Random(f"{seed} next hop"), slow)
        self._server = ForkServer(environment) if environment else None
        self.relay = ForkedRelay(
            self._server or ForkServer.shared(),
            directory,
            merged(configuration(self.next_hop.port), config or {}),
            environment={**PATH, **(environment or {})},
            patience=60,
            module=module,
        )
        self._heard = len(self.relay.log())
        self.load = Load(self.relay.smtp_port, self.relay.spool, directory, seed, **load)

    def __enter__(self) -> Self:
        self.next_hop.__enter__()
        try:
            self.relay.__enter__()
        except BaseException:
            self.next_hop.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.relay.__exit__()
        self.next_hop.__exit__()
        if self._server is not None:
            self._server.close()

    # --- faults

    def kill(self) -> None:
        """kill -9 and start again."""
        self.relay.kill9()
        self.restart("kill -9")

    def restart(self, kind: str, *, corrupts: bool = False) -> None:
        """The relay is dead, by a fault of this kind: start it and note what was in flight."""
        at, leased = time.time(), in_flight(self.relay.spool)
        self.relay.start()
        counted = int(self.relay.metric("relay_possible_duplicates_total"))
        said = self.said()
        assert [counted] == (said[-1:] if counted else [0]), f"counted {counted}, said {said}"
        self.note(Fault(kind, at, leased, max(said, default=0), corrupts))

    def said(self) -> list[int]:
        """The log lines beside the metric, since the last time. A start that was killed before anybody could
        read its metric has written its line; killed before it noted so, the next tells the same again."""
        text, before = self.relay.log(), self._heard
        self._heard = len(text)
        return [int(number) for number in _IN_FLIGHT.findall(text, before)]

    def note(self, fault: Fault) -> None:
        history.append(self.faults, fault)

    # --- the end

    def finish(self, seconds: float = 60.0, *, empty: bool = True) -> Findings:
        """Waits until nothing is left that can go, then judges. The load must have been stopped.

        empty False: what is still there after `seconds` is left to the checker.
        """
        emptied = self.drain(seconds)
        made = self.history()
        findings = check(made)
        (self.directory / "history.json").write_text(json.dumps(made.to_json()))
        (self.directory / "findings.json").write_text(json.dumps(findings.to_json()))
        (self.directory / "report.txt").write_text(f"{findings}\n")
        assert emptied or not empty, f"not drained in {seconds} s: {made.waiting[:5]}\n{findings}"
        return findings

    def drain(self, seconds: float) -> bool:
        """Held mail is released, what waits is tried at once, until only quarantine is left or time is up."""
        spool, deadline, nudged = self.relay.spool, time.monotonic() + seconds, 0.0
        while time.monotonic() < deadline:
            if time.monotonic() - nudged > NUDGE:
                operate(spool, {"command": "release", "states": [HELD]})
                operate(spool, {"command": "retry", "all": True})
                nudged = time.monotonic()
            if self.relay.waiting() == self.relay.metric("relay_queue_messages", state="quarantine"):
                return True
            time.sleep(0.02)  # a poll of the condition above
        return False

    def history(self) -> History:
        """Everything known now, from the logs on disk and the queue."""
        waiting, reports = self.queue()
        return History(
            sent=history.by_id(history.read(self.load.sent, Sent)),
            arrivals=list(history.read(self.next_hop.arrivals, Arrival)),
            notices=[*history.read(self.next_hop.notices, Notice), *reports],
            waiting=waiting,
            removals=list(history.read(self.load.removals, Removal)),
            faults=list(history.read(self.faults, Fault)),
            named=list(history.read(self.named, Removal)),
        )

    def queue(self) -> tuple[list[Waiting], list[Notice]]:
        """What the queue holds: letters, and bounces by what is in them."""
        waiting, reports = [], []
        for row in operate(self.relay.spool, {"command": "list"}) or []:
            if "end" in row:
                continue
            entry = waiting_of(row)
            if entry.id:
                waiting.append(entry)
            else:
                reports.append(self.report(entry.queue_id))
        return waiting, reports

    def operate(self, request: Mapping[str, object]) -> list[dict[str, Any]] | None:
        """One operator's command; None: the relay did not live to answer."""
        return operate(self.relay.spool, request)

    def report(self, queue_id: str) -> Notice:
        shown = operate(self.relay.spool, {"command": "show", "ids": [queue_id], "content": True}) or []
        content = b"".join(base64.b64decode(str(part["content"])) for part in shown if "content" in part)
        return read_notice(content, waiting=True)


def waiting_of(row: Mapping[str, Any]) -> Waiting:
    """id "": a bounce, whose recipient is a letter's sender or the postmaster."""
    recipients = tuple(item["address"] for item in row["recipients"])
    bounce = recipients[0] == POSTMASTER or recipients[0].endswith("@sender.example")
    return Waiting("" if bounce else id_of(recipients[0]), row["queue_id"], recipients, row["state"])


def configuration(port: int) -> dict[str, Any]:
    """All domains go to the next hop, each by a lane of its own."""
    via = [f"127.0.0.1:{port}"]
    routes = [{"name": name, "to": [f"{name}.example"], "via": via} for name in ("a", "b", "c")]
    return {
        "hostname": HOSTNAME,
        "postmaster": POSTMASTER,
        "routes": [*routes, {"name": "rest", "via": via}],
        "retry": IMPATIENT,
        "limits": {"sessions": 200},
    }
