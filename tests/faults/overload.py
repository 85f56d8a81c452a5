"""A campaign of overload: a relay with TLS and logins, and what is measured while it is pressed.

with Overload(directory, seed, limits={"sessions": 300}) as campaign:
    with Crowd(campaign.relay.smtp_port, campaign.tls_port, 100), campaign.watched():
        ...
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakes.certificates import authority
from fakes.ports import ReservedPort
from fakes.relay_process import merged
from faults import history
from faults.campaign import Campaign, configuration
from faults.flood import small
from faults.history import History, Sent

LOOK = 0.2  # s between two looks at the memory


class Overload(Campaign):
    """peak: octets resident at most while watched. sent: more logs of letters than the load's own."""

    def __init__(
        self, directory: Path, seed: int, *, limits: Mapping[str, int], concurrency: int = 20, **more: Any
    ) -> None:
        """concurrency: connections to the next hop, of each of four lanes."""
        settings: dict[str, Any] = {"clients": 20, "make": small, "pause": 0.1, "operator": False}
        super().__init__(directory, seed, **{**settings, **more})
        self._tls = ReservedPort()
        self.tls_port = self._tls.port
        self.peak = 0
        self.sent: list[Path] = []
        certificate, key = authority().issue("127.0.0.1", "localhost").write(directory, "relay")
        (directory / "users").touch(0o600)
        clear = {"tls": "starttls", "auth": "optional", "auth_over": "clear"}
        own: dict[str, Any] = {
            "listeners": [
                {"address": f"127.0.0.1:{self.relay.smtp_port}", **clear},
                {"address": f"127.0.0.1:{self.tls_port}", "tls": "implicit"},
            ],
            "tls": {"certificate": str(certificate), "key": str(key)},
            "users_file": str(directory / "users"),
            "limits": limits,
            "log": {"level": "warning"},
        }
        usual = configuration(self.next_hop.port)
        own["routes"] = [{**route, "concurrency": concurrency} for route in usual["routes"]]
        self.relay.configure(merged(usual, own))

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._tls.close()

    def history(self) -> History:
        made = super().history()
        for log in self.sent:
            made.sent.update(history.by_id(history.read(log, Sent)))
        return made

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK):
                self.peak = max(self.peak, self.relay.resident())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def late(self, seconds: float) -> tuple[int, int]:
        """Timers of the event loop that ran later than that (a bound of the histogram); and all of them."""
        buckets = self.relay.metrics()["relay_event_loop_lag_seconds_bucket"]
        within = {float(dict(labels)["le"]): int(count) for labels, count in buckets.items()}
        every = within[math.inf]
        return every - within[seconds], every

    def __str__(self) -> str:
        load = self.load
        took, waits = percentiles(load.took), percentiles(load.waits)
        late = ", ".join(f"{self.late(bound)[0]} over {bound} s" for bound in (0.05, 0.1, 0.5, 1.0))
        return (
            f"{len(load.took)} honest letters: {took}; {len(load.waits)} connections: {waits}; "
            f"{self.peak / 2**20:.0f} MiB; {self.late(1.0)[1]} timers, {late}"
        )


def percentiles(seconds: Sequence[float]) -> str:
    return f"p50 {at(seconds, 0.5):.3f} s, p99 {at(seconds, 0.99):.3f} s, longest {max(seconds):.3f} s"


def at(seconds: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
