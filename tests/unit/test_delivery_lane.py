"""The parts of a lane on their own: the pool of connections, the dialer, the capture directory as a
connection."""

from __future__ import annotations

from random import Random

import pytest
from fakes.clock import FakeClock
from fakes.delivery import FakeHop, FakeLink, FakeResolver, FakeTable

from relay.delivery.dial import Dialer, NoSuchHost, Opener, Unreachable
from relay.delivery.failure import OpenFailed
from relay.delivery.faults import Faults
from relay.delivery.pool import Link, Pool
from relay.observe.events import Events
from relay.reply import Reply
from relay.routing.hosts import DnsDeferred, DnsFailed
from relay.routing.table import LanePolicy
from relay.routing.target import Target

POLICY = FakeTable().policy("mx:example.org")
assert POLICY is not None
TARGET = Target("hop.example", "192.0.2.1", 25)


class Holder:
    """A lane that only counts."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.given_up: list[Link] = []
        self.pumped = 0

    def give_up(self, link: Link) -> None:
        self.given_up.append(link)
        self.pool.unpark(link)
        self.pool.release()

    def pump(self) -> None:
        self.pumped += 1


def test_a_full_pool_closes_what_was_idle_longest() -> None:
    pool, hop = Pool(2), FakeHop()
    owner = Holder(pool)
    old, young = FakeLink(hop, TARGET), FakeLink(hop, TARGET)
    for link in (old, young):
        assert pool.reserve(owner)
        pool.park(link, owner, 0.0)
    assert pool.reserve(Holder(pool))
    assert owner.given_up == [old]
    assert pool.taken == 2


def test_a_full_pool_without_idle_connections_makes_a_line() -> None:
    pool = Pool(1)
    first, second, third = Holder(pool), Holder(pool), Holder(pool)
    assert pool.reserve(first)
    assert not pool.try_reserve()
    assert not pool.reserve(second)
    assert not pool.reserve(third)
    assert pool.crowded
    pool.serve()
    assert second.pumped == 0  # no place yet
    pool.release()
    pool.serve()
    assert (second.pumped, third.pumped) == (1, 0)
    assert third.pumped == 0
    pool.forget(third)
    assert not pool.crowded
    assert pool.try_reserve()


def test_the_pool_knows_what_is_idle_too_long() -> None:
    pool, hop = Pool(5), FakeHop()
    owner = Holder(pool)
    links = [FakeLink(hop, TARGET) for _ in range(3)]
    for since, link in enumerate(links):
        pool.park(link, owner, float(since))
    pool.unpark(links[0])
    assert pool.stale(1.0) == [(links[1], owner)]


def dialer(hop: FakeHop, *names: str, clock: FakeClock | None = None) -> Dialer:
    return dialing(FakeResolver(*names), hop.open, clock)


def dialing(resolver: FakeResolver, opener: Opener, clock: FakeClock | None = None) -> Dialer:
    clock = clock or FakeClock()
    return Dialer(resolver, opener, Random(1), clock.monotonic, Faults(Events(), clock))


async def test_hosts_are_dialled_in_order_until_one_answers() -> None:
    hop = FakeHop(dead={"a", "b"})
    link, target, choices = await dialer(hop, "a", "b", "c", "d").dial(_policy())
    assert isinstance(link, FakeLink)
    assert (target.name, choices) == ("c", 4)
    assert hop.by_host == {"a": 1, "b": 1, "c": 1}


async def test_a_bad_address_is_tried_last_until_its_time_is_over() -> None:
    hop, clock = FakeHop(dead={"a"}), FakeClock()
    dial = dialer(hop, "a", "b", clock=clock)
    for _ in range(3):
        assert (await dial.dial(_policy()))[1].name == "b"
    assert hop.by_host["a"] == 1
    hop.dead.clear()
    clock.advance(301)
    assert (await dial.dial(_policy()))[1].name == "a"


async def test_two_sessions_past_the_greeting_are_enough() -> None:
    hop = FakeHop(down=OpenFailed("ehlo", Reply(554, "5.0.0", "go away"), "greeting", "a"))
    with pytest.raises(Unreachable) as raised:
        await dialer(hop, "a", "b", "c").dial(_policy())
    assert hop.opens == 2
    assert raised.value.trouble.reason == "greeting"


async def test_the_trouble_told_is_where_an_address_got_farthest() -> None:
    failures = {
        "a": OpenFailed("auth", Reply(535, "4.7.8", "wrong password"), "auth", "a"),
        "b": OpenFailed("connect", Reply(0, "4.4.1", "refused"), "connect", "b"),
    }

    async def opener(target: Target, policy: LanePolicy) -> Link:
        raise failures[target.name]

    dial = dialing(FakeResolver("a", "b"), opener)
    with pytest.raises(Unreachable) as raised:
        await dial.dial(_policy())
    assert (raised.value.trouble.reason, raised.value.trouble.host) == ("auth", "a")


async def test_dns_verdicts_come_through_as_they_are() -> None:
    resolver = FakeResolver()
    dial = dialing(resolver, FakeHop().open)
    resolver.resolution = DnsFailed(Reply(0, "5.1.10", "null MX"))
    with pytest.raises(NoSuchHost) as final:
        await dial.dial(_policy())
    assert final.value.reply.enhanced == "5.1.10"
    resolver.resolution = DnsDeferred(Reply(0, "4.4.4", "private address"), "address")
    with pytest.raises(Unreachable) as temporary:
        await dial.dial(_policy())
    assert temporary.value.trouble.reason == "address"


def test_who_waits_for_a_place_comes_before_who_can_do_without() -> None:
    pool = Pool(1)
    first, second = Holder(pool), Holder(pool)
    assert pool.reserve(first)
    assert not pool.reserve(second)
    pool.release()
    assert not pool.try_reserve()
    assert pool.reserve(second)


def _policy() -> LanePolicy:
    assert POLICY is not None
    return POLICY
