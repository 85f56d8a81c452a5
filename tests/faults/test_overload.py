"""Campaign 10: overload. More clients than there are places, hostile ones, more mail than can be delivered.

Promises 2 and 7: honest clients get their 250, memory and the loop's lag stay bounded, nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults import history
from faults.crowd import Crowd
from faults.flood import Flood
from faults.history import Sent
from faults.overload import Overload, at
from faults.sizes import is_full, new_seed, rounds

MEMORY = 300 * 2**20  # octets, at most
FULL_PATIENCE, CI_PATIENCE = 1.0, 5.0  # s, of honest clients: what is promised, and where the machine is busy
FULL_LATE, CI_LATE = 0.05, 0.5  # of the loop's timers may be late, the same; in 3 s there are 6
LATE = 0.5  # s
EACH = 100  # connections of each hostile kind
ENOUGH = 100  # letters, or the load was none
SLOW_MACHINE = 60.0  # s more for these


def patience() -> float:
    """seconds"""
    return FULL_PATIENCE if is_full() else CI_PATIENCE


def bear(campaign: Overload, seconds: float, enough: Callable[[], bool] = lambda: True) -> None:
    """That long, and until the load was one."""
    time.sleep(seconds)
    campaign.relay.wait_until(lambda: campaign.load.acked > ENOUGH and enough(), "under load", SLOW_MACHINE)


def measured(campaign: Overload) -> None:
    print(campaign)
    assert campaign.peak < MEMORY
    assert at(campaign.load.took, 0.99) < patience()
    late, every = campaign.late(LATE)
    assert late <= every * (FULL_LATE if is_full() else CI_LATE)


@pytest.mark.timeout(1000)
def test_five_hundred_hostile_connections_of_five_kinds(tmp_path: Path) -> None:
    """20 honest clients get 250 with a p99 below 1 s, resident memory stays below 300 MB."""
    seconds = rounds(3, 120)
    with Overload(tmp_path, new_seed(), limits={"sessions": 1000}) as campaign:
        crowd = Crowd(campaign.relay.smtp_port, campaign.tls_port, EACH)
        campaign.load.start()
        with crowd, campaign.watched():
            bear(campaign, seconds)
            sessions = campaign.relay.metric("relay_smtp_sessions")
            campaign.load.stop()
        print(crowd.said)
        measured(campaign)
        assert sessions > 3 * EACH  # who guesses or does not read is cut, and comes again
        assert at(campaign.load.waits, 0.99) < 2 * patience()
        assert campaign.load.acked > ENOUGH
        findings = campaign.finish()
    assert findings.clean, str(findings)


@pytest.mark.timeout(1000)
def test_every_place_is_taken_from_many_addresses(tmp_path: Path) -> None:
    """The hostile come from an address each, half as many again as there are places, and come back at once.

    Who had mail accepted before gets in all the same; a stranger does when the idle ones have to go.
    """
    full = is_full()
    places, seconds = (1000, 120) if full else (200, 3)
    limits = {"sessions": places, "sessions_per_client": 20}
    module = "relay" if full else "faults.impatient"
    with Overload(tmp_path, new_seed(), limits=limits, module=module) as campaign:
        stranger = Flood(campaign.relay.smtp_port, tmp_path / "stranger", 1, 1, "s", "127.0.0.99")
        campaign.sent.append(stranger.sent)
        campaign.load.start()
        campaign.relay.wait_until(lambda: campaign.load.acked > 20, "known to the relay")
        crowd = Crowd(campaign.relay.smtp_port, campaign.tls_port, 3 * places // 10, "many")
        with crowd, stranger, campaign.watched():
            bear(campaign, seconds, lambda: gave_way(campaign) > places / 10 and has_mail_in(stranger))
            left = gave_way(campaign)
            campaign.load.stop()
        print(
            crowd.said,
            f"{left:.0f} gave way, {stranger.acked} letters of a stranger, "
            f"who had to try for {stranger.longest:.1f} s",
        )
        measured(campaign)
        assert campaign.relay.metric("relay_smtp_connections_total", result="sessions") > 0
        assert at(campaign.load.waits, 0.99) < CI_PATIENCE  # strangers wait for 10 s and more
        assert campaign.load.acked > ENOUGH and stranger.acked > 0 and left > places / 10
        findings = campaign.finish()
    assert findings.clean, str(findings)


def gave_way(campaign: Overload) -> float:
    return campaign.relay.metric("relay_smtp_sessions_gave_way_total")


def has_mail_in(flood: Flood) -> bool:
    return any(letter.code == 250 for letter in history.read(flood.sent, Sent))


@pytest.mark.timeout(2000)
def test_ten_times_what_the_next_hop_takes(tmp_path: Path) -> None:
    """The queue grows, nobody is refused, and it drains when it is over."""
    seconds, connections = (180, 20) if is_full() else (1, 3)  # a slow machine takes less mail, too
    with (
        Overload(
            tmp_path, new_seed(), limits={"sessions": 1000}, slow=1.0, concurrency=connections
        ) as campaign,
        ExitStack() as stack,
    ):
        floods = [
            Flood(campaign.relay.smtp_port, tmp_path / f"flood{n}", n, 40, f"f{n}", f"127.0.0.{n + 10}")
            for n in range(2)
        ]
        campaign.sent += [flood.sent for flood in floods]
        with campaign.watched():
            for flood in floods:
                stack.enter_context(flood)
            campaign.load.start()
            bear(campaign, seconds)
            waiting = campaign.relay.waiting()
            campaign.load.stop()
            stack.close()
        accepted = campaign.load.acked + sum(flood.acked for flood in floods)
        print(f"{accepted} accepted, {waiting:.0f} waiting at the end")
        measured(campaign)
        assert waiting > accepted / 2
        campaign.next_hop.slow = 0.0
        findings = campaign.finish(60 + accepted / 100)
    assert findings.clean, str(findings)
