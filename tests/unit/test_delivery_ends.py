"""How attempts end: fates, other hosts, bugs of ours, the watchdog, damaged content, the capture
directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.delivery import FakeLink, FakeResolver, FakeTable, refused, said
from fakes.delivery_world import LANE, World

from relay.config.model import Config, Delivery
from relay.delivery.job import Kind, Verdict
from relay.outcome import Deferred, Failed
from relay.reply import Reply
from relay.routing.hosts import DnsDeferred


async def test_three_recipients_three_fates_one_report_and_only_the_deferred_one_stays() -> None:
    world = World()
    world.hop.answers = {
        "a@example.org": [said(250, "ok")],
        "b@example.org": [said(451, "4.7.1 later"), said(250, "ok")],
        "c@example.org": [said(550, "5.1.1 no such user")],
    }
    world.queue.submit(LANE, "a@example.org", "b@example.org", "c@example.org")
    await world.settle_down()
    assert world.reporter.written == [("failed", ["c@example.org"], b"hello\r\n")]
    _, remaining, keywords = world.queue.settled[0]
    assert [recipient.address for recipient in remaining] == ["b@example.org"]
    assert "451" in remaining[0].reply
    assert (keywords["counted"], len(keywords["reports"])) == (True, 1)
    assert 48 <= keywords["due"] - world.clock.time() <= 72
    await world.pass_time(80)
    assert sorted(world.hop.arrived) == ["a@example.org", "b@example.org"]
    assert not world.queue.rows
    assert world.events.count("dsn") == 0 and len(world.queue.reports) == 1


async def test_an_ambiguous_end_waits_ten_minutes_and_is_told() -> None:
    world = World()
    lost = Deferred(Reply(0, "4.4.2", "connection lost"), "hop.example", "dot", ambiguous=True)
    world.hop.answers = {"to@example.org": [lost]}
    world.queue.submit(LANE)
    await world.settle_down()
    assert world.queue.settled[0][2]["due"] >= world.clock.time() + 600
    assert world.events.count("ambiguous") == 1


async def test_deferred_at_the_first_host_is_tried_at_the_second_in_the_same_attempt() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example", "mx3.example"))
    world.hop.answers = {
        "b@example.org mx1.example": [said(451, "later")],
        "b@example.org mx2.example": [said(451, "later here too")],
    }
    world.queue.submit(LANE, "a@example.org", "b@example.org")
    await world.settle_down()
    assert world.hop.by_host == {"mx1.example": 1, "mx2.example": 1}  # two sessions, not three
    entry, remaining, _ = world.queue.settled[0]
    assert [recipient.address for recipient in remaining] == ["b@example.org"]
    assert "later here too" in remaining[0].reply
    assert world.hop.arrived == ["a@example.org"]
    assert world.events.count("attempted") == 1
    assert world.scheduler.tools.pool.taken == 1
    assert entry.attempts == 0


async def test_a_bad_address_is_tried_last_for_a_while() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example"), table=FakeTable(per_connection=1))
    world.hop.dead.add("mx1.example")
    for _ in range(10):
        world.queue.submit(LANE)
    await world.settle_down(300)
    assert len(world.hop.arrived) == 10
    assert world.hop.by_host == {"mx1.example": 1, "mx2.example": 10}


async def test_a_bug_of_ours_defers_the_entry_and_the_lane_goes_on() -> None:
    world = World()
    world.queue.unreadable.add(2)
    world.hop.down = refused()
    for _ in range(3):
        world.queue.submit(LANE)
    await world.settle_down()
    world.hop.down = None
    await world.pass_time(10)
    assert len(world.hop.arrived) == 2
    assert world.events.count("bug") == 1
    assert (list(world.queue.rows), world.held) == ([2], 0)
    assert world.queue.rows[2].entry.attempts == 1
    world.queue.unreadable.clear()
    await world.pass_time(90)
    assert len(world.hop.arrived) == 3


async def test_a_report_that_cannot_be_made_ends_nobody() -> None:
    world = World()
    world.reporter.error = RuntimeError("a bug")
    world.hop.answers = {"to@example.org": [said(550, "no")]}
    number = world.queue.submit(LANE)
    await world.settle_down()
    assert world.queue.rows[number].entry.attempts == 1
    assert world.events.count("bug") == 1
    world.reporter.error = None
    await world.pass_time(90)
    assert len(world.queue.reports) == 1
    assert not world.queue.rows


async def test_an_attempt_that_never_ends_is_ended_by_the_watchdog() -> None:
    world = World()
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    world.clock.advance(3700)
    world.hop.busy[0].past_dot = True
    world.scheduler.sweep()
    await world.settle_down()
    assert world.events.count("bug") == 1
    assert world.queue.rows[number].entry.attempts == 1
    assert world.queue.rows[number].due >= world.clock.time() + 600  # the peer may have it
    assert (world.held, world.hop.links) == (0, [])


async def test_a_dead_kept_connection_is_not_an_attempt() -> None:
    world = World(table=FakeTable(concurrency=1))
    world.queue.submit(LANE)
    await world.settle_down()
    world.hop.hold = True
    world.queue.submit(LANE)
    link = world.hop.busy.pop()
    world.hop.hold = False
    link.finish(Verdict(Kind.FRESH), closed=True)
    await world.settle_down()
    assert len(world.hop.arrived) == 2
    assert (world.events.count("retried_fresh"), world.events.count("attempted")) == (1, 2)


async def test_damaged_content_is_put_aside_and_not_sent() -> None:
    world = World()
    world.hop.hold = True
    world.queue.submit(LANE)
    await world.settle_down()
    link = world.hop.busy.pop()
    link.finish(Verdict(Kind.CORRUPT, text="checksum differs"), closed=True)
    assert (world.queue.quarantined, world.held) == (["checksum differs"], 0)


def captured(directory: Path) -> int:
    return len(list(directory.glob("*.eml")))


async def test_a_capture_directory_is_a_next_hop_like_any_other(tmp_path: Path) -> None:
    table = FakeTable(concurrency=2)
    table.capture = tmp_path
    world = World(table=table)
    for _ in range(6):
        world.queue.submit(LANE, options="NOTIFY=SUCCESS")
    for _ in range(500):
        await asyncio.sleep(0.002)
        if not world.queue.rows:
            break
    assert captured(tmp_path) == 6
    assert [kind for kind, _, _ in world.reporter.written] == ["relayed"] * 6
    assert world.hop.opens == 0


async def test_a_recipient_without_a_result_is_deferred_not_lost() -> None:
    world = World()
    world.hop.hold = True
    number = world.queue.submit(LANE, "a@example.org", "b@example.org")
    await world.settle_down()
    link = world.hop.busy.pop()
    assert link.job is not None
    link.job.results[0] = said(250, "ok")
    link.finish(Verdict())
    assert [recipient.address for recipient in world.queue.rows[number].entry.recipients] == ["b@example.org"]


async def test_the_watchdog_knows_that_a_peer_may_have_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    (link,) = world.hop.busy
    link.past_dot = True
    monkeypatch.setattr(link, "abort", link._end)  # it does not even say that it ended
    world.clock.advance(3700)
    world.scheduler.sweep()
    assert world.events.count("ambiguous") == 1
    assert world.queue.rows[number].due >= world.clock.time() + 600


async def test_a_second_host_that_hangs_up_before_it_is_used_is_no_bug() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example"))
    world.hop.answers = {"to@example.org mx1.example": [said(451, "later")]}
    world.hop.hangs_up.add("mx2.example")
    world.queue.submit(LANE)
    await world.settle_down()
    assert (world.events.count("bug"), world.held) == (0, 0)
    _, remaining, _ = world.queue.settled[0]
    assert "later" in remaining[0].reply


def lacking(link: FakeLink) -> None:
    """The host of this link does not take 8-bit content."""
    assert link.job is not None
    link.hop.busy.remove(link)
    link.job.results[0] = Failed(Reply(0, "5.6.3", "no 8BITMIME"), link.host, "capability")
    link.finish(Verdict(elsewhere=[0]))


async def test_a_missing_capability_is_final_only_when_no_host_has_it() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example"))
    world.hop.hold = True
    world.queue.submit(LANE)
    await world.settle_down()
    lacking(world.hop.busy[0])
    await world.settle_down()
    assert world.hop.busy[0].target.name == "mx2.example"
    lacking(world.hop.busy[0])
    await world.settle_down()
    assert [kind for kind, *_ in world.reporter.written] == ["failed"]


async def test_a_missing_capability_fails_nobody_while_there_is_no_room_to_ask_the_other_host() -> None:
    world = World(
        resolver=FakeResolver("mx1.example", "mx2.example"), config=Config(delivery=Delivery(connections=1))
    )
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    lacking(world.hop.busy[0])
    await world.settle_down()
    assert (world.reporter.written, world.held) == ([], 0)
    assert "4.6.3" in world.queue.rows[number].entry.recipients[0].reply


async def test_a_missing_capability_fails_nobody_while_the_other_hosts_are_not_known() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example"))
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    world.resolver.resolution = DnsDeferred(Reply(0, "4.4.3", "SERVFAIL"), "dns")
    lacking(world.hop.busy[0])
    await world.settle_down()
    assert (world.reporter.written, world.held) == ([], 0)
    assert "4.6.3" in world.queue.rows[number].entry.recipients[0].reply


async def test_a_missing_capability_fails_nobody_when_the_second_host_is_cut_by_the_stop() -> None:
    world = World(resolver=FakeResolver("mx1.example", "mx2.example"))
    world.hop.hold = True
    number = world.queue.submit(LANE)
    await world.settle_down()
    lacking(world.hop.busy[0])
    await world.settle_down()
    assert world.hop.busy[0].target.name == "mx2.example"
    await world.scheduler.stop(0.0)
    assert (world.reporter.written, world.held) == ([], 0)
    assert number in world.queue.rows
