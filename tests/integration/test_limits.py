"""Rate and concurrency at a next hop that enforces both, beside a route that has neither; and a next hop that
was dead for a while. `make scale` sets RELAY_FULL=1: half a minute of it."""

from __future__ import annotations

import os
import smtplib
import time
from collections import Counter
from pathlib import Path

from fakes.delivering import Delivering, until, waiting
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.strict_hop import StrictHop

MESSAGES = 300 if os.environ.get("RELAY_FULL") == "1" else 120  # more than the second window allows
# What 600/min is in shorter windows. In the shortest there is one more: a busy machine is not always equally
# quick to see a message that is there.
WINDOWS = {1.0: 11, 10.0: 100, 60.0: 600}


def send(port: int, recipients: list[str]) -> None:
    """One message to each, over one connection."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        for recipient in recipients:
            client.sendmail("app@sender.example", [recipient], b"Subject: hello\r\n\r\nhello\r\n")


def latencies(port: int, sink: RecordingSink, name: str, count: int) -> list[float]:
    """Seconds from the end of our DATA to the arrival of each of `count` messages, one after the other."""
    found = []
    with smtplib.SMTP("127.0.0.1", port) as client:
        for number in range(count):
            before = len(sink.messages)
            begun = time.monotonic()
            client.sendmail(
                "app@sender.example", [f"{name}{number}@quick.example"], b"Subject: x\r\n\r\nx\r\n"
            )
            found.append(sink.wait(before + 1, 10)[-1].at - begun)
    return sorted(found)


def test_a_rate_and_a_concurrency_that_the_next_hop_enforces(tmp_path: Path) -> None:
    """Not one 4xx, no attempt counted for waiting, the other route as quick as ever."""
    with StrictHop(3, WINDOWS) as hop, RecordingSink() as quick:
        limits = {"rate": "600/min", "concurrency": 3, "messages_per_connection": 20}
        strict = {"name": "strict", "to": ["strict.example"], "via": [f"127.0.0.1:{hop.port}"], **limits}
        free = {"name": "free", "via": [f"127.0.0.1:{quick.port}"]}
        with RelayProcess(tmp_path, {"routes": [strict, free]}) as relay:
            alone = latencies(relay.smtp_port, quick, "alone", 40)
            begun = time.monotonic()
            send(relay.smtp_port, [f"u{number}@strict.example" for number in range(MESSAGES)])
            assert relay.metric("relay_queue_messages", state="active") <= 21
            assert {item["attempts"] for item in relay.listed()} == {0}
            beside = latencies(relay.smtp_port, quick, "beside", 40)
            explained = relay.command("explain", "x@strict.example").stdout
            lanes = relay.command("queue", "lanes").stdout
            hop.wait(MESSAGES, 45)
            took = hop.messages[-1].at - begun
            relay.wait_until(lambda: relay.waiting() == 0, "empty")
            held_up = relay.metric("relay_throttle_delay_seconds_total", route="strict")
            attempts = relay.metric("relay_delivery_attempts_total", route="strict")
            delivered = relay.metric("relay_deliveries_total", route="strict", result="delivered")
            undisturbed = relay.metric("relay_throttle_delay_seconds_total", route="free")
    print(f"{MESSAGES} in {took:.1f} s; p50 {alone[20] * 1e3:.1f}/{beside[20] * 1e3:.1f} ms alone/beside")
    assert hop.violations == []
    assert Counter(message.recipients[0] for message in hop.messages) == {
        f"u{number}@strict.example": 1 for number in range(MESSAGES)
    }
    assert (attempts, delivered) == (MESSAGES, MESSAGES)
    assert "status=deferred" not in relay.log()
    assert MESSAGES / 10 - 1 < took < 1.1 * MESSAGES / 10
    assert hop.most_sessions <= 3
    assert beside[20] < alone[20] + 0.02
    assert beside[38] < alone[38] + 0.2
    assert "waits for its rate (600/min)" in explained
    assert "waits for its rate (600/min)" in lanes
    assert 0.8 * took < held_up < 1.2 * took
    assert undisturbed == 0


def test_concurrency_alone_as_the_next_hop_counts_it(tmp_path: Path) -> None:
    """Connections that are used up after three messages make way before others take their places."""
    with StrictHop(3, {}) as hop:
        hop.delays |= {"DOT": 0.02, "QUIT": 0.02}  # it takes its time, also to say goodbye
        limits = {"concurrency": 3, "messages_per_connection": 3}
        route = {"name": "strict", "via": [f"127.0.0.1:{hop.port}"], **limits}
        with RelayProcess(tmp_path, {"routes": [route]}) as relay:
            send(relay.smtp_port, [f"u{number}@strict.example" for number in range(MESSAGES)])
            hop.wait(MESSAGES, 30)
            relay.wait_until(lambda: relay.waiting() == 0, "empty")
            assert relay.metric("relay_delivery_attempts_total", route="strict") == MESSAGES
    assert hop.violations == []
    assert hop.most_sessions == 3
    assert max(Counter(message.session for message in hop.messages).values()) == 3


def test_a_next_hop_that_allows_fewer_connections_than_configured(tmp_path: Path) -> None:
    """It says so to the fourth: the three that work carry all, and no message pays for it with an attempt."""
    with StrictHop(3, {}) as hop:
        hop.delays["DOT"] = 0.02
        route = {"name": "small", "via": [f"127.0.0.1:{hop.port}"], "concurrency": 10}
        with RelayProcess(tmp_path, {"routes": [route]}) as relay:
            send(relay.smtp_port, [f"u{number}@small.example" for number in range(MESSAGES)])
            hop.wait(MESSAGES, 30)
            relay.wait_until(lambda: relay.waiting() == 0, "empty")
            assert relay.metric("relay_delivery_attempts_total", route="small") == MESSAGES
            assert relay.metric("relay_deliveries_total", result="deferred") == 0
    assert 1 <= len(hop.violations) <= 10


async def test_two_next_hops_the_first_dead_then_back(tmp_path: Path) -> None:
    """Mail goes by the second; some minutes later the first is used again. Nothing is lost or doubled."""
    async with RecordingSink() as first, RecordingSink() as second:
        await first.shut()
        hops = [f"127.0.0.1:{sink.port}" for sink in (first, second)]
        async with Delivering(tmp_path / "spool", *hops).running() as relay:
            for number in range(50):
                await relay.accept(f"a{number}@example.org")
            await until(lambda: len(second.messages) == 50 and not waiting(relay))
            await first.reopen()
            await relay.accept("b@example.org")
            await until(lambda: len(second.messages) == 51 and not waiting(relay))
            relay.clock.on += 301.0
            await until(lambda: not second.open_sessions)
            for number in range(50):
                await relay.accept(f"c{number}@example.org")
            await until(lambda: len(first.messages) == 50 and not waiting(relay))
        assert relay.events.count("lane_suspended") == 0
        assert relay.events.count("attempted") == 101
    came = Counter(message.recipients[0] for message in (*first.messages, *second.messages))
    assert len(came) == 101 and set(came.values()) == {1}
