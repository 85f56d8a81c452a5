"""What people read: the story of a message, the table, the words. Pure functions."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fakes.operator_queue import EPOCH

from relay.cli import table
from relay.cli.explain import told
from relay.cli.story import fault_line, lane_standing, lane_trouble, story
from relay.cli.words import cut, exact, moment, octets, plural, short


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def entry(**fields: object) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "queue_id": "1j9m2k4tq0d",
        "arrival_time": int(EPOCH) - 7500,
        "message_size": 12_345,
        "sender": "alice@corp.example",
        "recipients": [{"address": "bob@example.org", "delay_reason": "451 4.7.1 try later"}],
        "lane": "mx:example.org",
        "state": "deferred",
        "next_attempt": EPOCH + 725,
        "attempts": 3,
        "crashes": 0,
        "lane_state": {},
    }
    return facts | fields


def test_the_story_of_a_deferred_message() -> None:
    """State, last reply, next try, what ails the next hop: in plain words."""
    lane = {
        "state": "suspended", "reason": "connect", "host": "mx1.example.org[192.0.2.1]:25",
        "since": EPOCH - 300, "reply": "4.4.1 connection refused", "until": EPOCH + 25,
    }  # fmt: skip
    assert list(story([entry(lane_state=lane)], EPOCH)) == [
        "Message 1j9m2k4tq0d",
        "  from      alice@corp.example",
        "  size      12 KiB",
        "  accepted  20:08:20, 2 h 5 min ago",
        "",
        "By mx:example.org: deferred, tried 3 times",
        "  to bob@example.org",
        "    last reply: 451 4.7.1 try later",
        "  next try in 12 min 5 s, at 22:25:25",
        "  the lane is suspended for 5 min: the next hop cannot be reached (mx1.example.org[192.0.2.1]:25: "
        "4.4.1 connection refused); probing again in 25 s",
    ]


FAULT = {
    "route": "smarthost", "reason": "auth", "host": "smtp1.example.net[192.0.2.1]:587",
    "reply": "535 4.7.8 wrong \x1b[2J", "since": EPOCH - 300, "until": EPOCH + 25,
}  # fmt: skip
AT_FAULT = (
    "smtp1.example.net[192.0.2.1]:587 is at fault since 22:08:20 (5 min): the next hop refuses our user "
    "name or password (535 4.7.8 wrong \\x1b[2J); asked again in 25 s"
)


def test_a_host_at_fault_beside_one_that_works() -> None:
    """Host, since when, what was said, when it is asked again: in the story and in the table of lanes."""
    lane = {"state": "healthy", "reason": "", "faults": [FAULT]}
    assert f"  {AT_FAULT}" in story([entry(lane_state=lane)], EPOCH)
    tally = {"messages": 0, "bytes": 0, "oldest": 0.0}
    states = dict.fromkeys(("incoming", "active", "deferred", "hold", "quarantine"), tally)
    line = table.lane_line({"lane": "route:smarthost", "states": states, "lane_state": lane}, EPOCH)
    assert line.endswith(AT_FAULT)
    assert fault_line(FAULT | {"until": EPOCH - 1, "reason": "tls"}, EPOCH).endswith("; asked again now")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "incoming", "attempts": 0}, "waiting for the first attempt"),
        ({"next_attempt": EPOCH - 60}, "next try: due since 22:12:20, waiting for its turn"),
        ({"state": "active", "next_attempt": None}, "this attempt is under way"),
        ({"state": "active", "next_attempt": None}, "being delivered now, tried 3 times before"),
        ({"state": "hold", "next_attempt": None}, "no next try: on hold until released"),
        ({"state": "hold", "next_attempt": None, "crashes": 3}, "in flight when the relay crashed"),
        ({"state": "quarantine", "next_attempt": None}, "in quarantine"),
        ({"sender": "MAILER-DAEMON"}, "<> (a notification)"),
        ({"recipients": [{"address": "a@b"}]}, "  to a@b"),
        ({"recipients": [{"address": "a@b", "delay_reason": "4.0.0 \x1b[2J\nx"}]}, "4.0.0 \\x1b[2J\\nx"),
    ],
)
def test_the_story_of_other_states(fields: dict[str, Any], expected: str) -> None:
    """Each state says what happens next; nothing from outside reaches the terminal raw."""
    text = "\n".join(story([entry(**fields)], EPOCH))
    assert expected in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, ""),
        ({"state": "healthy", "reason": ""}, ""),
        ({"state": "probing", "reason": "auth", "until": EPOCH + 9}, "in at the next hop (); probing now"),
        ({"state": "probing", "reason": "auth", "reply": "454 4.7.0 later"}, "puts our login off (454 4.7.0"),
        ({"state": "suspended", "reason": "dns", "until": EPOCH + 90}, "(); probing again in 1 min 30 s"),
        ({"state": "ramping", "reason": "connect", "since": EPOCH}, "the lane recovers"),
    ],
)  # fmt: skip
def test_lane_trouble_in_words(state: dict[str, Any], expected: str) -> None:
    """Nothing when all is well."""
    text = lane_trouble(state, EPOCH)
    assert expected in text
    assert bool(text) == bool(expected)


@pytest.mark.parametrize(
    ("health", "expected"), [("ramping", "waits for its rate"), ("suspended", "suspended")]
)
def test_the_rate_is_told_unless_the_lane_is_in_trouble(health: str, expected: str) -> None:
    """A lane that recovers at a low rate stays in that state for long; its mail waits for the rate."""
    lane = {"state": health, "reason": "auth", "reply": "535 no", "rate": "6/min", "rate_until": EPOCH + 9}
    assert expected in lane_standing(lane, EPOCH)


def test_a_row_of_the_table() -> None:
    """Id, age, size, state, attempts, next try, sender, recipients, last reply."""
    recipients = [{"address": "bob@example.org"}, {"address": "c@d", "delay_reason": "451 later\n"}]
    line = table.row(entry(recipients=recipients), EPOCH, table.Layout(address=24, reply=9))
    assert line.split() == [
        "1j9m2k4tq0d", "2h", "12", "KiB", "deferred", "3", "in", "12m", "alice@corp.example",
        "bob@example.org", "(+1)", "451", "late…",
    ]  # fmt: skip


def test_what_explain_says() -> None:
    """Route, hosts in order, refusals, the lane, what is queued."""
    facts = {
        "recipient": "a@example.org", "sender": "", "lane": "mx:example.org", "route": "mx", "kind": "mx",
        "domain": "example.org", "port": 25, "tls": "opportunistic", "concurrency": 20,
        "messages_per_connection": 100, "capture": None, "verdict": "hosts", "reply": "",
        "hosts": [
            {"name": "mx1.example.org", "preference": 10, "port": 25, "implicit_tls": False,
             "state": "usable", "addresses": ["192.0.2.1"], "text": "",
             "refused": [{"address": "127.0.0.1", "why": "loopback"}]},
            {"name": "mx2.example.org", "preference": 20, "port": 25, "implicit_tls": False,
             "state": "nothing", "addresses": [], "refused": [], "text": "no address"},
        ],
        "queue": {"deferred": {"messages": 3, "bytes": 1, "oldest": 1.0}},
        "lane_state": {"state": "healthy", "reason": ""},
    }  # fmt: skip
    text = "\n".join(told(facts))
    for part in (
        "a@example.org from <>",
        "mx:example.org (route: mx)",
        "host       mx1.example.org port 25 (preference 10)\n               192.0.2.1\n",
        "127.0.0.1 refused: loopback",
        "mx2.example.org port 25 (preference 20) [nothing]: no address",
        "queued     3",
        "lane now   no trouble known",
    ):
        assert part in text
    for verdict, word in (("failed", "would bounce: 5.1.2"), ("deferred", "would wait: 5.1.2")):
        assert word in "\n".join(told(facts | {"verdict": verdict, "reply": "5.1.2", "hosts": []}))
    del facts["lane_state"]
    assert "the relay does not run" in "\n".join(told(facts))


def test_words() -> None:
    """Numbers as people say them."""
    assert [short(value) for value in (-1, 0, 59, 60, 3599, 7200, 200_000)] == [
        "0s", "0s", "59s", "1m", "59m", "2h", "2d",
    ]  # fmt: skip
    assert [exact(value) for value in (0, 61, 7500, 90_000)] == ["0 s", "1 min 1 s", "2 h 5 min", "1 d 1 h"]
    assert [octets(value) for value in (0, 1023, 1536, 50 * 2**20, 2**41)] == [
        "0 B", "1023 B", "1.5 KiB", "50 MiB", "2048 GiB",
    ]  # fmt: skip
    assert moment(EPOCH - 86_400, EPOCH) == "2023-11-13 22:13:20"
    assert cut("abcdef\x00", 5) == "abcd…"
    assert cut("abc", 0) == "abc"
    assert cut("a\x1b[2Jb\n", 0) == "a\\x1b[2Jb\\n"
    assert [plural(1, "message"), plural(2, "message")] == ["1 message", "2 messages"]


def test_mail_that_is_due_waits_for_its_next_hop() -> None:
    """While the lane is suspended nothing is next but its probe."""
    state = {"state": "suspended", "reason": "connect", "reply": "refused", "until": EPOCH + 25}
    lines = list(story([entry(next_attempt=EPOCH - 60, lane_state=state)], EPOCH))
    assert any(line.startswith("  next try: when the next hop is back") for line in lines)
    lines = list(story([entry(next_attempt=EPOCH + 60, lane_state=state)], EPOCH))
    assert any(line.startswith("  next try in 1 min") for line in lines)
