"""Faults of routes: one host is left in peace, the others go on, nothing bounces, no account is locked."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.delivery import FakeResolver, said
from fakes.delivery_route import LANE, A, B, configured, hosts_at_fault, refusal, world

from relay.config.model import Config, Retry
from relay.delivery.faults import wait
from relay.routing.table import RouteTable


async def test_one_host_at_fault_is_left_in_peace_and_the_other_goes_on() -> None:
    """Its probe comes after 60 s, then twice as late each time; one event at its begin, one at its end."""
    here = world(A, B)
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    for _ in range(100):
        here.queue.submit(LANE)
        await here.pass_time(2)
    assert len(here.hop.arrived) == 101
    assert here.hop.by_host[A] == 3  # at 0, 60 and 180 s; the next at 420
    assert here.events.count("lane_suspended") == 0
    assert [event[:3] for event in here.events.of("route_fault")] == [("smarthost", f"{A}:587", "auth")]
    assert here.state()["state"] == "healthy"
    (fault,) = here.scheduler.faults()
    assert (fault["host"], fault["reason"], fault["reply"]) == (f"{A}[192.0.2.1]:587", "auth", "535 4.7.8 no")
    assert here.state(LANE)["faults"] == [fault]
    assert (fault["username"], fault["login_by"], fault["files"]) == ("relay", "password", [])
    here.hop.faulty.clear()
    await here.pass_time(230)
    assert here.events.of("route_fault_ended") == [("smarthost", f"{A}:587", "auth")]
    assert here.state(LANE)["faults"] == []
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.links[-1].target.name == A


@pytest.mark.parametrize(("reason", "key"), [("auth", "password_file"), ("tls", "ca_file")])
async def test_a_fault_names_the_file_that_may_be_wrong(reason: str, key: str, tmp_path: Path) -> None:
    """In its event and in what operators ask for: the path, for a login that of the secret, for TLS whom to
    trust."""
    files = {name: str(tmp_path / name) for name in ("password_file", "ca_file")}
    here = world(A, **files)
    here.hop.faulty[A] = refusal(A, reason)
    await here.settle_down()
    (fault,) = here.scheduler.faults()
    assert fault["files"] == [files[key]]
    assert [event[5] for event in here.events.of("route_fault")] == [(files[key],)]


async def test_a_host_that_nobody_sends_to_is_probed_as_well() -> None:
    """The gauge tells the truth also when no mail comes; the connection of the probe is closed at once."""
    here = world(A, B)
    here.hop.faulty[A] = refusal(A)
    await here.pass_time(30)
    assert not here.scheduler.lanes
    here.hop.faulty.clear()
    await here.pass_time(31)
    assert here.events.count("route_fault_ended") == 1
    assert not here.hop.links
    assert here.scheduler.tools.pool.taken == 0


async def test_all_hosts_at_fault_suspend_the_lane_until_the_first_may_be_asked() -> None:
    """One login a minute at most, nothing bounces, no attempt counts; each host is asked when it is time."""
    here = world(A, B)
    here.hop.faulty = {A: refusal(A), B: refusal(B)}
    await here.pass_time(59)
    assert here.hop.by_host == {A: 1, B: 1}
    assert (here.state(LANE)["state"], here.state(LANE)["reason"]) == ("suspended", "auth")
    for _ in range(20):
        here.queue.submit(LANE)
    await here.pass_time(3600)
    assert here.hop.by_host == {A: 8, B: 8}  # at 0, 60, 180, 420, 900 s, then each quarter of an hour
    assert {row.entry.attempts for row in here.queue.rows.values()} == {0}
    assert (here.events.count("attempted"), here.events.count("route_fault"), here.held) == (0, 2, 0)
    here.hop.faulty.clear()
    await here.pass_time(900)
    await here.settle_down(500)
    assert len(here.hop.arrived) == 21
    assert here.events.count("lane_suspended") == 1  # told once, not at each probe
    assert here.events.count("lane_resumed") == 1


async def test_expiry_counts_the_probes_of_a_fault() -> None:
    """Promise 11: over give_up, and asked half as often as the schedule provides."""
    here = world(A, retry=Retry(give_up=3600.0))  # provides 5 attempts: 3 probes
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    here.queue.age(2 * 3600)
    await here.pass_time(400)
    assert here.state(LANE)["probes"] == 2
    assert here.queue.rows
    await here.pass_time(30)
    assert here.state(LANE)["probes"] == 3
    assert not here.queue.rows
    assert [kind for kind, *_ in here.reporter.written] == ["failed"]


@pytest.mark.parametrize("change", ["rewritten", "made", "link"])
async def test_a_changed_secret_is_tried_within_seconds(tmp_path: Path, change: str) -> None:
    """A file that is written, that appears, and a link that is moved (Kubernetes)."""
    first, second, link = tmp_path / "1", tmp_path / "2", tmp_path / "secret"
    second.write_text("right")
    first.write_text("wrong")
    if change == "link":
        link.symlink_to(first)
    elif change == "rewritten":
        link.write_text("wrong")
    here = world(A, password_file=str(link))
    here.hop.faulty[A] = refusal(A)
    await here.pass_time(30)
    assert here.hop.by_host[A] == 1
    if change == "link":
        _link(tmp_path / "new", second).replace(link)
    else:
        link.write_text("right")
    here.hop.faulty.clear()
    await here.pass_time(3)
    assert len(here.hop.arrived) == 1
    assert here.events.count("route_fault_ended") == 1


def _link(path: Path, to: Path) -> Path:
    path.symlink_to(to)
    return path


async def test_a_changed_secret_that_is_wrong_too_is_tried_once(tmp_path: Path) -> None:
    """And its waits begin anew, from 60 s."""
    secret = tmp_path / "secret"
    secret.write_text("wrong")
    here = world(A, B, password_file=str(secret))
    here.hop.faulty = {A: refusal(A)}
    await here.pass_time(1000)
    before = here.hop.by_host[A]
    secret.write_text("wrong too")
    await here.pass_time(50)
    assert here.hop.by_host[A] == before + 1
    await here.pass_time(15)
    assert here.hop.by_host[A] == before + 2
    assert here.events.count("route_fault") == 1


async def test_a_failure_with_an_old_secret_does_not_hide_the_new_one(tmp_path: Path) -> None:
    """The file was mended while the login with the old password was under way."""
    secret = tmp_path / "secret"
    secret.write_text("right")
    here = world(A, password_file=str(secret))
    late = refusal(A)
    late.stamps = ((1, 2, 3),)
    here.hop.faulty[A] = late
    await here.settle_down()
    here.hop.faulty.clear()
    await here.pass_time(3)
    assert len(here.hop.arrived) == 1


async def test_an_operators_retry_asks_at_once() -> None:
    """`relay queue retry` means the hosts at fault too."""
    here = world(A)
    here.hop.faulty[A] = refusal(A)
    await here.pass_time(20)
    here.hop.faulty.clear()
    here.scheduler.hasten()
    await here.pass_time(1)
    assert len(here.hop.arrived) == 1


async def test_a_reload_asks_at_once_and_forgets_hosts_that_are_gone() -> None:
    """What is no longer a next hop has no fault: its gauge must go back."""
    here = world(A, B)
    here.hop.faulty = {A: refusal(A), B: refusal(B)}
    await here.pass_time(20)
    assert hosts_at_fault(here) == [A, B]
    here.hop.faulty.clear()
    config, resolver = configured(B), FakeResolver(B, port=587)
    here.scheduler.reload(config, RouteTable(config), resolver)
    assert hosts_at_fault(here) == [B]
    await here.pass_time(1)
    assert len(here.hop.arrived) == 1
    assert here.events.count("route_fault_ended") == 2


async def test_a_reload_without_the_route_ends_its_faults() -> None:
    here = world(A)
    here.hop.faulty[A] = refusal(A)
    await here.pass_time(5)
    config = Config()
    here.scheduler.reload(config, RouteTable(config), FakeResolver())
    assert hosts_at_fault(here) == []


async def test_a_dead_host_with_a_fault_is_asked_again_in_half_a_minute() -> None:
    """What became of the login is not known; the wait for it does not grow."""
    here = world(A, B)
    here.hop.faulty[A] = refusal(A)
    await here.pass_time(61)
    here.hop.faulty.clear()
    here.hop.dead.add(A)
    await here.pass_time(125)
    assert hosts_at_fault(here) == [A]
    here.hop.dead.clear()
    await here.pass_time(31)
    assert hosts_at_fault(here) == []


async def test_a_login_that_is_put_off_is_tried_again_in_seconds() -> None:
    """4yz to AUTH is no wrong password: 5 s, then twice as long each time; the other host goes on."""
    here = world(A, B)
    later = refusal(A)
    later.passing = True
    here.hop.faulty[A] = later
    await here.settle_down()
    here.queue.submit(LANE)
    await here.pass_time(4)
    assert here.hop.by_host[A] == 1
    await here.pass_time(32)
    assert here.hop.by_host[A] == 4  # at 0, 5, 15 and 35 s
    assert len(here.hop.arrived) == 2
    here.hop.faulty.clear()
    await here.pass_time(41)
    assert hosts_at_fault(here) == []


async def test_a_token_endpoint_that_is_down_is_no_fault() -> None:
    """It is asked again after seconds, as a next hop that is down, and no alarm is raised about the route's
    settings."""
    here = world(A)
    here.hop.faulty[A] = refusal(A, "token", fault=False)
    await here.pass_time(16)
    assert here.hop.by_host[A] == 3
    assert here.state(LANE)["reason"] == "token"
    assert (hosts_at_fault(here), here.events.count("route_fault")) == ([], 0)


async def test_a_host_that_lacks_what_a_message_needs_fails_nobody_while_another_is_at_fault() -> None:
    """Row capability: failed when no host offers it; the one at fault was not asked."""
    here = world(A, B)
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    lacking = said(550, "needs SMTPUTF8", "capability", B)
    here.hop.answers = {"to@example.org": [lacking]}
    here.queue.submit(LANE, "to@example.org")
    await here.settle_down()
    (row,) = here.queue.rows.values()
    assert row.entry.attempts == 1
    assert not here.queue.reports


async def test_the_first_host_is_used_again_when_it_is_back() -> None:
    """Two hosts, the first dead and then back: mail goes by the second meanwhile, and by the first again."""
    here = world(A, B)
    here.hop.dead.add(A)
    await here.settle_down()
    for _ in range(60):
        here.queue.submit(LANE)
        await here.pass_time(1)
    assert len(here.hop.arrived) == 61
    assert here.hop.by_host[A] == 1
    assert here.events.count("lane_suspended") == 0
    here.hop.dead.clear()
    await here.pass_time(300)
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.links[-1].target.name == A


def test_waits() -> None:
    """A login is tried at most once a minute, at least every quarter of an hour."""
    assert [wait("auth", backoff) for backoff in (-1, 0, 1, 2, 3, 4, 99)] == [60, 60, 120, 240, 480, 900, 900]
    assert [wait("tls", backoff) for backoff in (0, 5, 99)] == [10, 300, 300]
