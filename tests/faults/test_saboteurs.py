"""The campaigns catch our own sabotage: each saboteur changes the relay in its process and must turn one red.

Where a kill would have to come at the right moment, the order of the system calls is what convicts it.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from fakes.tools import require_tool
from faults.checker import Findings
from faults.client import Client
from faults.letter import LARGE, letter
from faults.traced import story_in_order, telling

HONEST = "faults.single_thread"


def test_the_honest_relay_keeps_the_order(tmp_path: Path) -> None:
    """The whole story, every system call: nothing is said or done before it is on disk (promises 1 and 3)."""
    order, findings = story_in_order(tmp_path)
    assert order.violations() == []
    assert findings.clean, str(findings)
    assert order.acknowledged == 8
    assert len(order.commits) > 20


@pytest.mark.parametrize(
    ("saboteur", "steps", "rules"),
    [
        ("no_sync", ("small", "large"), "ABE"),
        ("early_reply", ("small", "large"), "A"),
        ("early_outcome", ("small", "large"), "C"),
        ("early_forget", ("small", "bounce"), "D"),
    ],
)
def test_a_saboteur_is_convicted_by_the_order(
    tmp_path: Path, saboteur: str, steps: Sequence[str], rules: str
) -> None:
    order, _ = story_in_order(tmp_path, f"faults.sabotage_{saboteur}", steps=steps)
    assert set(rules) == {violation[0] for violation in order.violations()}


def test_eatmydata_is_convicted_by_the_order(tmp_path: Path) -> None:
    """Syncs that return at once and do nothing never reach the kernel."""
    order, _ = story_in_order(
        tmp_path, prefix=[require_tool("eatmydata", "eatmydata")], steps=("small", "large")
    )
    assert {violation[0] for violation in order.violations()} == {"A", "B", "E"}


def killed_at_the_dot(directory: Path, module: str) -> Findings:
    """The next hop says nothing after the final dot until the relay is dead."""
    with telling(directory, module) as campaign:
        relay, hop = campaign.relay, campaign.next_hop
        hop.answers["DOT ok.0.silent@a.example"] = "421 4.3.2 closing"
        hop.delays["DOT ok.0.silent@a.example"] = 600.0
        client = Client(relay.smtp_port)
        queue_id = campaign.load.send(client, letter("silent", Random(1))).queue_id
        relay.wait_until(lambda: hop.dots > 0, "past the dot")
        campaign.operate(
            {"command": "retry", "ids": [queue_id]}
        )  # answered after what came before it is written
        campaign.kill()
        client.close()
        hop.answers.clear()
        hop.delays.clear()
        return campaign.finish(20)


def test_an_early_outcome_is_convicted_by_a_kill(tmp_path: Path) -> None:
    """Killed between the dot and its reply, the honest relay tries again and the saboteur has forgotten."""
    assert killed_at_the_dot(tmp_path / "honest", HONEST).clean
    assert killed_at_the_dot(tmp_path / "sabotaged", "faults.sabotage_early_outcome").rules() == {1}


def short_write(directory: Path, module: str) -> tuple[Findings, int]:
    """A limit of file size cuts the last write of a content file short; the reply to that letter."""
    with telling(directory, module) as campaign:
        client = Client(campaign.relay.smtp_port)
        resource.prlimit(campaign.relay.pid, resource.RLIMIT_FSIZE, (2 * LARGE, 2 * LARGE))
        answer = campaign.load.send(client, letter("cut", Random(1), size=2 * LARGE))
        client.close()
        campaign.relay.kill9()
        campaign.restart("file size limit")
        return campaign.finish(20), answer.code


def test_a_short_write_is_convicted_by_the_checker(tmp_path: Path) -> None:
    """The honest relay writes the rest, is refused, and says so; the saboteur acknowledges half a letter."""
    findings, code = short_write(tmp_path / "honest", HONEST)
    assert findings.clean, str(findings)
    assert code // 100 == 4
    findings, code = short_write(tmp_path / "sabotaged", "faults.sabotage_short_write")
    assert code == 250
    assert findings.rules() == {6}
