"""Faults of routes: one host is left in peace, the others go on, nothing bounces, no account is locked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.delivery import FakeResolver, said
from fakes.delivery_world import World

from relay.config.model import Config, Retry
from relay.delivery.failure import OpenFailed
from relay.delivery.faults import wait
from relay.delivery.job import Verdict
from relay.outcome import Deferred
from relay.reply import Reply
from relay.routing.table import RouteTable

LANE = "route:smarthost"
A, B = "a.example", "b.example"


def configured(*hosts: str, **keys: Any) -> Config:
    via = [f"{host}:587" for host in hosts]
    login = (
        {"username": "relay", "password": "secret"} if "password_file" not in keys else {"username": "relay"}
    )
    retry = keys.pop("retry", Retry())
    route = {"name": "smarthost", "via": via, **login, **keys}
    return Config.model_validate({"routes": [route]}).model_copy(update={"retry": retry})


def world(*hosts: str, **keys: Any) -> World:
    """A route to these hosts, in this order."""
    config = configured(*hosts, **keys)
    table: Any = RouteTable(config)  # a real one: policies with `via`
    here = World(config, table, FakeResolver(*hosts, port=587))
    here.queue.submit(LANE)
    return here


def refusal(host: str, reason: str = "auth", *, fault: bool = True) -> OpenFailed:
    stage = {"auth": "auth", "token": "auth", "tls": "starttls"}[reason]
    return OpenFailed(stage, Reply(535, "4.7.8", "no"), reason, f"{host}[192.0.2.1]:587", fault=fault)


def hosts_at_fault(here: World) -> list[str]:
    return [host for _, host, _ in here.scheduler.tools.faults.records]


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
    here.hop.faulty.clear()
    await here.pass_time(230)
    assert here.events.of("route_fault_ended") == [("smarthost", f"{A}:587", "auth")]
    assert here.state(LANE)["faults"] == []
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.links[-1].target.name == A


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
    here.clock.jump(2 * 3600)
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


@pytest.mark.parametrize("elsewhere", [[0], []])
@pytest.mark.parametrize("code", [530, 535])
async def test_a_refusal_in_a_transaction_is_a_fault_of_that_host(code: int, elsewhere: list[int]) -> None:
    """Row "any": the message goes by the other host, the lane is not suspended, no attempt counts; an opening
    alone does not end it."""
    here = world(A, B)
    here.hop.hold = True
    await here.settle_down()
    (link,) = here.hop.busy
    assert link.target.name == A and link.job is not None
    link.job.results[0] = Deferred(Reply(code, "4.7.8", "log in first"), link.host, "mail")
    here.hop.busy.clear()
    here.hop.hold = False
    link.finish(Verdict(elsewhere=elsewhere, lane="auth"))
    await here.settle_down()
    assert len(here.hop.arrived) == 1
    assert {link.target.name for link in here.hop.links} <= {B}
    assert hosts_at_fault(here) == [A]
    assert here.events.count("lane_suspended") == 0
    await here.pass_time(30)
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.by_host[A] == 1
    await here.pass_time(31)
    here.queue.submit(LANE)
    await here.settle_down()
    assert here.hop.by_host[A] == 2
    assert hosts_at_fault(here) == []
    assert len(here.hop.arrived) == 3


async def test_an_opening_does_not_end_what_a_transaction_met() -> None:
    """530 to every MAIL: one fault with growing waits, not one after the other."""
    here = world(A)
    here.hop.hold = True
    for _ in range(1000):
        await here.pass_time(1)
        for link in here.hop.busy[:]:
            here.hop.busy.remove(link)
            assert link.job is not None
            link.job.results[0] = Deferred(Reply(530, "4.7.8", "log in first"), link.host, "mail")
            link.finish(Verdict(elsewhere=[0], lane="auth"))
            await here.settle_down()
    assert here.hop.opens == 5  # at 0, 60, 180, 420 and 900 s
    assert (here.events.count("route_fault"), here.events.count("route_fault_ended")) == (1, 0)
    assert not here.reporter.written


async def test_a_probe_is_no_connection_too_many() -> None:
    """The concurrency of a route is a hard limit, also while a host at fault is due."""
    here = world(A, B, concurrency=1)
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    here.hop.hold = True
    here.queue.submit(LANE)
    await here.settle_down()
    assert len(here.hop.busy) == 1
    await here.pass_time(130)
    assert here.hop.by_host[A] == 1
    here.hop.answer()
    await here.pass_time(12)
    assert here.hop.by_host[A] == 2
    assert here.hop.most == 1


async def test_a_host_at_fault_may_have_what_the_others_lack() -> None:
    """Row capability, in a detour: with one host at fault nobody can say that no host offers it."""
    here = world(A, B, "c.example")
    here.hop.faulty[A] = refusal(A)
    await here.settle_down()
    here.hop.hold = True
    here.queue.submit(LANE, "to@example.org")
    await here.settle_down()
    for _ in range(2):
        (link,) = here.hop.busy
        here.hop.busy.clear()
        assert link.job is not None
        link.job.results[0] = said(550, "needs SMTPUTF8", "capability", link.target.name)
        link.finish(Verdict(elsewhere=[0]))
        await here.settle_down()
        if not here.hop.busy:
            break
    (row,) = here.queue.rows.values()
    assert row.entry.attempts == 1
    assert not here.queue.reports


async def test_what_was_under_way_does_not_end_a_fault() -> None:
    """A transaction that began before the refusal says nothing about the login since: without this, a host
    that takes some mail and refuses other would be asked without a pause."""
    here = world(A)
    here.queue.submit(LANE)
    here.hop.hold = True
    await here.settle_down()
    here.hop.answer()
    await here.settle_down()
    here.queue.submit(LANE)
    here.queue.submit(LANE)
    await here.settle_down()
    refused, good = here.hop.busy[:2]
    assert refused.job is not None
    refused.job.results[0] = Deferred(Reply(530, "4.7.8", "no"), refused.host, "mail")
    here.hop.busy.remove(refused)
    refused.finish(Verdict(lane="auth"))
    assert good.job is not None
    here.hop.answer(len(here.hop.busy))
    await here.settle_down()
    assert hosts_at_fault(here) == [A]
    assert here.state(LANE)["state"] == "suspended"
    await here.pass_time(58)
    assert here.hop.by_host[A] <= 3


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
