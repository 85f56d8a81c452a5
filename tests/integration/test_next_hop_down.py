"""Design section 2: a lane in trouble is suspended as a whole; when the next hop is back, all of it goes."""

from __future__ import annotations

import smtplib
import subprocess
import time
from pathlib import Path

from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_tool

QUEUED = 6_000
FRESH = 100
PROBE = 20.0  # seconds: the probe interval after the outage this test makes, at the most


def fill(port: int, count: int) -> None:
    """count messages of 1 KB by smtp-source, over kept connections."""
    command = [
        require_tool("smtp-source", "postfix"), "-s", "20", "-m", str(count), "-l", "1024", "-d", "-N",
        "-f", "app@sender.example", "-t", "old@example.com", f"127.0.0.1:{port}",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=240, check=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def test_down_queued_and_back(tmp_path: Path) -> None:
    """Nothing is tried one by one while it is down; the drain is complete and fresh mail passes it."""
    with RecordingSink(keep=False) as sink:
        sink.close()
        sink.delays["DOT"] = 0.01  # so that the drain lasts longer than the fresh mail takes to be sent
        config = {"routes": [{"name": "all", "via": [f"127.0.0.1:{sink.port}"]}]}
        with RelayProcess(tmp_path, config) as relay:
            fill(relay.smtp_port, QUEUED)
            assert relay.waiting() == QUEUED
            assert relay.metric("relay_delivery_attempts_total") == 0
            assert relay.metric("relay_destination_suspended", reason="connect") == 1
            sink.open()
            back = time.monotonic()
            sink.wait(1, PROBE + 5)
            assert sink.messages[0].at - back < PROBE
            delays = send_fresh(relay.smtp_port, sink)
            sink.wait(QUEUED + FRESH, 240)
            relay.wait_until(lambda: relay.waiting() == 0, "empty", 60)
    assert len({message.recipients[0] for message in sink.messages}) == QUEUED + FRESH
    assert len(sink.messages) == QUEUED + FRESH
    print(f"fresh mail during the drain: p99 {percentile(delays, 0.99):.3f} s")
    assert percentile(delays, 0.99) < 2.0


def send_fresh(port: int, sink: RecordingSink) -> list[float]:
    """FRESH messages one after the other while the backlog drains; seconds from 250 to arrival of each."""
    sent: dict[str, float] = {}
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(FRESH):
            recipient = f"fresh{number}@example.com"
            client.sendmail("app@sender.example", [recipient], b"Subject: fresh\r\n\r\nnow\r\n")
            sent[recipient] = time.monotonic()
    draining = len(sink.messages)
    assert draining < QUEUED, "the backlog was gone before the fresh mail was sent"
    deadline = time.monotonic() + 60
    arrived: dict[str, float] = {}
    while len(arrived) < FRESH and time.monotonic() < deadline:
        sink.wait(min(draining + 1, QUEUED + FRESH))
        draining = len(sink.messages)
        arrived = {m.recipients[0]: m.at for m in list(sink.messages) if m.recipients[0] in sent}
    return [arrived[recipient] - at for recipient, at in sent.items()]
