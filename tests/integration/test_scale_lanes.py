"""Promise 8: no event's cost grows with the number of lanes or with what waits in one of them.

Short by default; `make scale` sets RELAY_FULL=1: 100,000 lanes of ten messages each, a million messages in
one lane. Beside them mail flows in a lane of its own; a relay with a few lanes has the same at the same time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from fakes.full_spool import fill
from fakes.live_mail import LiveMail, Taken, percentile
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess
from integration.test_scale import FULL, MB, PeakMemory, smtp_sink, start_again

LANES, EACH = (100_000, 10) if FULL else (200, 2)
FEW = 10
ONE_LANE = 1_000_000 if FULL else 2_000
WINDOW = 20.0 if FULL else 0.2  # seconds


def literal(number: int) -> str:
    """One of 250 x 250 x 250 next hops that are all on loopback: no DNS is needed to tell them apart."""
    return f"[127.{1 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}]"


@contextmanager
def filled_relay(
    directory: Path, live: LiveMail, down: ReservedPort, messages: int, lanes: int
) -> Iterator[RelayProcess]:
    """Its lanes by MX find nobody at the port `down`; live mail flows through it. The spool goes at last."""
    directory.mkdir()
    relay = RelayProcess(directory, {"routes": [live.route], "mx": {"port": down.port, "tls": "none"}})
    fill(relay.spool, messages, lambda n: (f"mx:{literal(n % lanes)}", f"u{n}@{literal(n % lanes)}"))
    try:
        with relay:
            live.send_to(relay.smtp_port)
            yield relay
    finally:
        shutil.rmtree(relay.spool)


def compared(what: str, many: LiveMail, few: LiveMail) -> float:
    """Of what flowed since the last call: how the medians until the arrival compare."""
    here, there = many.taken(), few.taken()
    print(f"{what}: beside many lanes {here}; beside few {there}")
    assert here.arrived and there.arrived
    return percentile(here.arrived, 0.5) / percentile(there.arrived, 0.5)


def scrape(relay: RelayProcess) -> float:
    """Seconds, the median of some."""
    times = []
    for _ in range(20):
        begun = time.monotonic()
        assert relay.status("/metrics") == 200
        times.append(time.monotonic() - begun)
    return median(times)


@pytest.mark.timeout(1800)
def test_mail_flows_beside_many_lanes_in_trouble(tmp_path: Path) -> None:
    """As beside few; they are remembered in little memory, and in the way of no start."""
    down = ReservedPort()
    with (
        LiveMail() as live, LiveMail() as other,
        filled_relay(tmp_path / "many", live, down, LANES * EACH, LANES) as many,
        filled_relay(tmp_path / "few", other, down, FEW * EACH, FEW) as few,
    ):  # fmt: skip
        with PeakMemory(many) as memory:
            begun = time.monotonic()
            many.wait_until(lambda: suspended(many) == LANES, "in trouble in all lanes", 600)
            print(f"{LANES} lanes tried and suspended in {time.monotonic() - begun:.0f} s")
            compared("meanwhile", live, other)
            time.sleep(WINDOW)  # the time that is measured
            ratio = compared("then", live, other)
            lanes = many.command("queue", "lanes", seconds=300).stdout.splitlines()
            compared("while they are listed", live, other)
        scrapes = scrape(many), scrape(few)
        assert len(lanes) >= LANES + 1
        assert many.metric("relay_delivery_attempts_total", result="deferred") == 0
        peers, again = start_again(few), start_again(many)
        assert many.waiting() >= LANES * EACH
    down.close()
    print(f"scrape {1e3 * scrapes[0]:.1f} ms, beside few {1e3 * scrapes[1]:.1f} ms")
    print(f"peak {memory.highest / MB:.0f} MB resident")
    print(f"accepting again after {again:.2f} s, with few lanes {peers:.2f} s")
    assert memory.highest < 150 * MB
    assert ratio < 2.0 or not FULL  # 1.2 to 1.3 where nobody else wants the machine
    assert scrapes[0] < 2.0 * scrapes[1] or not FULL
    assert again < max(2.0, 1.5 * peers) or not FULL


def suspended(relay: RelayProcess) -> float:
    return relay.metric("relay_destination_suspended", reason="connect")


@pytest.mark.timeout(1800)
def test_mail_flows_beside_a_lane_in_which_everything_waits(tmp_path: Path) -> None:
    """While it waits, while an operator changes all of it, and while it leaves."""
    hop = ReservedPort()
    directory = tmp_path / "relay"
    directory.mkdir()
    with LiveMail() as live:
        relay = RelayProcess(
            directory, {"routes": [live.route, {"name": "all", "via": [f"127.0.0.1:{hop.port}"]}]}
        )
        fill(relay.spool, ONE_LANE, lambda number: ("route:all", f"u{number}@example.com"))
        with relay, PeakMemory(relay) as memory:
            live.send_to(relay.smtp_port)
            time.sleep(WINDOW)  # the time that is measured
            tell("nothing else happens", 0.0, live.taken())
            for action in ("hold", "release", "retry"):
                change(relay, action, live)
            with smtp_sink(hop.port):
                change(relay, "retry", live)
                relay.wait_until(lambda: relay.waiting() < ONE_LANE - 100, "resumed", 60)
                live.taken()
                begun, before = time.monotonic(), relay.waiting()
                time.sleep(WINDOW)  # the time that is measured
                rate = (before - relay.waiting()) / (time.monotonic() - begun)
                tell(f"the lane drains at {rate:.0f} messages a second", WINDOW, live.taken())
            change(relay, "drop", live)
        shutil.rmtree(relay.spool)
    hop.close()
    print(f"peak {memory.highest / MB:.0f} MB resident")
    assert memory.highest < 150 * MB


def change(relay: RelayProcess, action: str, live: LiveMail) -> None:
    """An operator's word about the whole lane."""
    begun = time.monotonic()
    words = ["--yes"] if action == "drop" else []
    done = relay.command("queue", action, "--lane", "route:all", *words, seconds=900)
    assert done.returncode == 0, done.stderr
    tell(f"{action}: {done.stdout.strip()}", time.monotonic() - begun, live.taken())


def tell(what: str, seconds: float, taken: Taken) -> None:
    assert taken.arrived
    print(f"{what}, {seconds:.1f} s; beside it {taken}")
