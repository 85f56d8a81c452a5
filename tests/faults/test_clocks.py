"""Campaign 9: clocks. Promise 11 with a whole relay, judged by checker.py.

Ten years forward and back, while it runs and between runs; a monotonic clock that begins anew.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fakes.tools import missing, require_root, require_tool
from faults.campaign import Campaign
from faults.letter import word_of
from faults.sizes import new_seed, rounds

from mailqueue import message_number

ROUNDS, FULL_ROUNDS = 1, 60
YEAR = 365 * 86400.0  # s
BETWEEN = 0.4  # s between two jumps
ENOUGH = 5  # letters accepted between two jumps
PATIENCE = 30.0  # s
JUMPS = ("+10y", "-10y", "+0")
REBOOTED = ("unshare", "--time", "--monotonic", "1000000")


def lying(directory: Path) -> dict[str, str]:
    """An environment in which the wall clock says what the file `clock` says; the monotonic one is true."""
    require_tool("faketime", "faketime")
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        missing("libfaketimeMT.so.1 is missing: install the Debian package faketime")
    (directory / "clock").write_text("+0\n")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(directory / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.timeout(14_400)
def test_ten_years_forward_and_back(tmp_path: Path) -> None:
    """What waits is tried in time, by itself; nothing ends that would not have ended."""
    with Campaign(tmp_path, new_seed(), environment=lying(tmp_path), operator=False) as campaign:
        campaign.load.start()
        for _ in range(rounds(ROUNDS, FULL_ROUNDS)):
            for jump in JUMPS:
                turn(campaign, jump)
                live(campaign)
            for jump in JUMPS[:2]:
                campaign.relay.kill9()
                turn(campaign, jump)
                campaign.restart(f"kill -9, then {jump}")
                campaign.operate({"command": "release", "states": ["hold"]})
                live(campaign)
        campaign.load.stop()
        tries_by_itself(campaign)
        findings = campaign.finish()
        made = campaign.history()
    print(findings)
    assert findings.clean, str(findings)
    ids = [message_number(letter.queue_id) for letter in made.sent.values() if letter.queue_id]
    assert max(ids) > (time.time() + 9 * YEAR) * 1e6, "the relay's clock did not jump"
    ended = {word_of(recipient) for notice in made.notices for recipient in notice.recipients}
    assert ended <= {"never", "refused"}
    assert "expired" not in campaign.relay.log()


@pytest.mark.timeout(14_400)
def test_a_reboot(tmp_path: Path) -> None:
    """The monotonic clock is a million seconds elsewhere at the next start: nothing stored uses it."""
    require_root("a time namespace")
    with Campaign(tmp_path, new_seed(), operator=False) as campaign:
        campaign.load.start()
        for prefix in (REBOOTED, ()):
            time.sleep(BETWEEN)
            campaign.relay.kill9()
            campaign.relay.start(prefix)
            namespace = Path(f"/proc/{campaign.relay.pid}/ns/time").readlink()
            assert (namespace != Path("/proc/self/ns/time").readlink()) == bool(prefix)
            campaign.operate({"command": "release", "states": ["hold"]})
        campaign.load.stop()
        tries_by_itself(campaign)
    assert "expired" not in campaign.relay.log()


def turn(campaign: Campaign, jump: str) -> None:
    """Replaced, not rewritten: nobody reads half of it."""
    new = campaign.directory / "clock.new"
    new.write_text(f"{jump}\n")
    new.replace(campaign.directory / "clock")


def live(campaign: Campaign) -> None:
    """Mail is accepted, put off and retried by this clock."""
    wanted = campaign.load.acked + ENOUGH
    time.sleep(BETWEEN)
    campaign.relay.wait_until(lambda: campaign.load.acked >= wanted, "in use")


def tries_by_itself(campaign: Campaign) -> None:
    """Without an operator's retry, all that waits is tried: nothing is frozen."""
    deadline = time.monotonic() + PATIENCE
    while campaign.relay.waiting():
        assert time.monotonic() < deadline, campaign.queue()
        time.sleep(0.05)  # a poll of the condition above
