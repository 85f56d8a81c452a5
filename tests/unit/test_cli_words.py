"""What people read: the story of a message, the table, the words. Pure functions."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fakes.operator_queue import EPOCH

from relay.cli import table
from relay.cli.explain import told
from relay.cli.story import beside, fault_line, lane_standing, lane_trouble, remedies, story
from relay.cli.words import cut, exact, moment, octets, peer, short
from relay.observe.text import plural


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
        "  mx1.example.org[192.0.2.1]:25 cannot be reached: 4.4.1 connection refused (suspended for 5 min, "
        "probing again in 25 s)",
    ]


FAULT = {
    "route": "smarthost", "reason": "auth", "host": "smtp1.example.net[192.0.2.1]:587",
    "reply": "535 5.7.8 wrong \x1b[2J", "since": EPOCH - 300, "until": EPOCH + 25,
    "username": "app", "login_by": "password", "files": ["/run/secrets/smarthost"],
}  # fmt: skip
SAID = "smtp1.example.net[192.0.2.1]:587 refuses our user name or password: 535 5.7.8 wrong \\x1b[2J "
AT_FAULT = f"{SAID}(at fault since 22:08:20, 5 min; asked again in 25 s)"
STANDS = "the password of app stands in the configuration of route smarthost; reload when it is changed"
MEND = "the password of app is in /run/secrets/smarthost, read again when it changes"
TALLY = {"messages": 0, "bytes": 0, "oldest": 0.0}
STATES = dict.fromkeys(("incoming", "active", "deferred", "hold", "quarantine"), TALLY)


def lane_line(state: dict[str, Any]) -> str:
    """One lane where the output is no terminal."""
    (line,) = table.lane_lines({"lane": "route:smarthost", "states": STATES, "lane_state": state}, EPOCH, 0)
    return line


def test_a_host_at_fault_beside_one_that_works() -> None:
    """Host, what was said, since when, when it is asked again, and where to mend it: in the story and in the
    table of lanes."""
    lane = {"state": "healthy", "reason": "", "faults": [FAULT]}
    assert list(story([entry(lane_state=lane)], EPOCH))[-2:] == [f"  {AT_FAULT}", f"  {MEND}"]
    assert lane_line(lane).endswith(f"  {AT_FAULT}; {MEND}")
    assert fault_line(FAULT | {"until": EPOCH - 1, "reason": "tls"}, EPOCH).endswith("; asked again now)")


@pytest.mark.parametrize(("others", "lines"), [([], 2), ([FAULT | {"host": "b.example[192.0.2.2]:587"}], 3)])
def test_trouble_is_told_once(others: list[dict[str, Any]], lines: int) -> None:
    """The host that the lane is suspended for is not told again as a host at fault; the others are."""
    told = {name: FAULT[name] for name in ("reason", "host", "reply", "since", "until")}
    lane = told | {"state": "suspended", "faults": [FAULT, *others]}
    said = f"{SAID}(suspended for 5 min, probing again in 25 s)"
    text = list(story([entry(lane_state=lane)], EPOCH))
    assert text[-lines] == f"  {said}" and text[-1] == f"  {MEND}"
    assert sum("smtp1.example.net" in line for line in text) == 1
    assert sum("b.example" in line for line in text) == len(others)
    assert lane_line(lane).count("smtp1.example.net") == 1
    assert list(beside(lane, EPOCH)) == [line.strip() for line in text[1 - lines :]]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({}, [MEND]),
        ({"files": []}, [STANDS]),
        ({"username": "", "files": []}, ["route smarthost has no username to log in with"]),
        (
            {"reason": "token", "login_by": "oauth", "files": ["/a", "/b"]},
            ["the secret of app is in /a and /b, read again when it changes"],
        ),
        (
            {"login_by": "oauth"},
            ["the secret of app is in /run/secrets/smarthost, read again when it changes"],
        ),
        ({"reason": "tls", "files": []}, []),
        (
            {"reason": "tls", "files": ["/ca"]},
            ["certificates are checked by /ca (ca_file of route smarthost)"],
        ),
        ({"files": ["/x\x1b[2J"]}, ["the password of app is in /x\\x1b[2J, read again when it changes"]),
    ],
)
def test_where_a_fault_is_mended(fault: dict[str, Any], expected: list[str]) -> None:
    """The path of the file, once however many hosts say no; what stands elsewhere is named as well."""
    assert list(remedies([FAULT | fault, FAULT | fault | {"host": "b.example[192.0.2.2]:587"}])) == expected
    older = {name: value for name, value in FAULT.items() if name not in ("files", "username", "login_by")}
    assert list(remedies([older])) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "incoming", "attempts": 0}, "waiting for the first attempt"),
        ({"next_attempt": EPOCH - 60}, "next try: due since 22:12:20, waiting for its turn"),
        ({"state": "active", "next_attempt": None}, "this attempt is under way"),
        ({"state": "active", "next_attempt": None}, "being delivered now, tried 3 times before"),
        ({"state": "active", "next_attempt": None, "attempts": 0}, "being delivered now, for the first time"),
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
        ({"state": "probing", "reason": "auth", "until": EPOCH + 9}, "the next hop (suspended, probing now)"),
        ({"state": "probing", "reason": "auth", "reply": "454 4.7.0 later"}, "puts our login off: 454 4.7.0"),
        ({"state": "probing", "reason": "auth", "reply": "535 5.7.8 no"}, "our user name or password: 535"),
        ({"state": "probing", "reason": "auth", "reply": "538 5.7.11 no"}, "next hop refuses our login: 538"),
        ({"state": "probing", "reason": "auth", "reply": "530 5.7.0 no"}, "next hop demands a login: 530"),
        ({"state": "suspended", "reason": "dns", "until": EPOCH + 90}, "(suspended, probing again in 1 min"),
        ({"state": "ramping", "reason": "connect", "since": EPOCH}, "recovers; until a moment ago: the next"),
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


def test_what_waits_for_a_rate_says_so() -> None:
    """In NEXT, in the story (once), in explain and in the table of lanes; not what is due later anyway."""
    lane = {"state": "healthy", "reason": "", "rate": "6/min", "rate_until": EPOCH + 9}
    words = "waits for its rate (6/min): the lane's next message goes in 9 s"
    due = entry(next_attempt=EPOCH - 60, lane_state=lane)
    assert " rate  " in table.row(due, EPOCH, table.Layout())
    text = "\n".join(story([due], EPOCH))
    assert text.endswith(f"\n  next try: due since 22:12:20, {words}") and text.count("rate") == 1
    assert lane_line(lane).endswith(f"  {words}")
    assert f"  lane now   {words}" in told(
        EXPLAINED | {"lane_state": lane | {"rate_until": time.time() + 8.9}}
    )
    later = entry(lane_state=lane)
    assert " in 12m " in table.row(later, EPOCH, table.Layout())
    assert "rate" not in "\n".join(story([later], EPOCH))


def test_a_row_of_the_table() -> None:
    """Id, age, size, state, attempts, next try, sender, recipients, last reply."""
    recipients = [{"address": "bob@example.org"}, {"address": "c@d", "delay_reason": "451 later\n"}]
    line = table.row(entry(recipients=recipients), EPOCH, table.Layout(address=24, reply=9))
    assert line.split() == [
        "1j9m2k4tq0d", "2h", "12", "KiB", "deferred", "3", "in", "12m", "alice@corp.example",
        "bob@example.org", "(+1)", "451", "late…",
    ]  # fmt: skip


EXPLAINED: dict[str, Any] = {
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


def test_what_explain_says() -> None:
    """Route, hosts in order, refusals, the lane, what is queued."""
    facts = dict(EXPLAINED)
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


def test_how_explain_tells_of_a_login() -> None:
    """Where the secret is, and what it may travel over; one of a thing is told as one."""
    login = {
        "username": "app", "login_by": "password", "login_over": "verified",
        "login_files": ["/run/secrets/smarthost"], "concurrency": 1, "messages_per_connection": 1,
    }  # fmt: skip
    lines = list(told(EXPLAINED | login))
    assert "  login      app, by password from /run/secrets/smarthost, only over verified TLS" in lines
    assert "  at a time  1 connection, 1 message each" in lines
    clear = told(EXPLAINED | login | {"login_over": "clear", "login_files": []})
    assert "  login      app, by password, also without TLS" in clear


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
    assert [table.following(EPOCH + wait, EPOCH, 0.0) for wait in (-1.0, 0.0, 0.2, 58.1, 60.0)] == [
        "now", "now", "in 1s", "in 59s", "in 1m",
    ]  # fmt: skip
    hosts = ("a.example[192.0.2.1]:25", "192.0.2.1[192.0.2.1]:25", "::1[::1]:25", "")
    assert [peer(host) for host in hosts] == [hosts[0], "192.0.2.1:25", "[::1]:25", ""]
    assert [plural(1, "message"), plural(2, "message")] == ["1 message", "2 messages"]


def test_mail_that_is_due_waits_for_its_next_hop() -> None:
    """While the lane is suspended nothing is next but its probe."""
    state = {"state": "suspended", "reason": "connect", "reply": "refused", "until": EPOCH + 25}
    lines = list(story([entry(next_attempt=EPOCH - 60, lane_state=state)], EPOCH))
    assert any(line.startswith("  next try: when the next hop is back") for line in lines)
    lines = list(story([entry(next_attempt=EPOCH + 60, lane_state=state)], EPOCH))
    assert any(line.startswith("  next try in 1 min") for line in lines)
