"""How the resolver asks: TCP, several servers, own and refused addresses, families, bounds, event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random

import pytest
import uvloop
from fakes.dns import A1, A2, A3, SIX, Records, World, mx, world

from relay.config.model import Config
from relay.observe.events import Events
from relay.routing.hosts import Hosts
from relay.routing.resolve import Resolver


async def test_truncated_answers_come_over_tcp() -> None:
    """By the TC flag, and for an answer that does not fit."""
    records = {"x.test": mx(*((10, f"{'m' * 50}{n}.test") for n in range(30))), "y.test": [A1]}
    records |= {f"{'m' * 50}{n}.test": [A1] for n in range(30)}
    async with world(records) as here:
        here.dns.script("y.test", "A", "truncate")
        assert await here.hosts("u@y.test") == [("y.test", ("192.0.2.1",), 0)]
        assert isinstance(await here.resolve("u@x.test"), Hosts)
        assert {("y.test", "A", "tcp"), ("x.test", "MX", "tcp")} <= set(here.dns.queries)


async def test_another_server_is_asked_when_the_first_fails() -> None:
    async with (
        world({"x.test": [A1]}) as bad,
        world({"x.test": [A1]}, more_servers=[bad.dns.address]) as here,
    ):
        here.dns.script("*", "*", then="servfail")
        assert await here.hosts("u@x.test") == [("x.test", ("192.0.2.1",), 0)]


async def test_nxdomain_is_confirmed() -> None:
    """One NXDOMAIN is not believed; two are."""
    async with world({"x.test": [A1]}) as here:
        here.dns.script("x.test", "MX", "nxdomain", "ok")
        assert await here.hosts("u@x.test") == [("x.test", ("192.0.2.1",), 0)]
        here.dns.script("y.test", "MX", "nxdomain", "servfail")
        assert await here.verdict("u@y.test") == ("dns", "4.4.3")
        assert await here.verdict("u@z.test") == ("failed", "5.1.2")
        assert here.dns.asked("z.test", "MX") == 2


async def test_nxdomain_is_confirmed_by_another_server() -> None:
    """One of two servers lost the zone: the other one's word counts."""
    async with world({}) as empty, world({"x.test": [A1]}, more_servers=[empty.dns.address]) as here:
        assert await here.hosts("u@x.test") == [("x.test", ("192.0.2.1",), 0)]
    async with world({"x.test": [A1]}) as full, world({}, more_servers=[full.dns.address]) as here:
        here.dns.script("x.test", "A", then="servfail")
        here.dns.script("x.test", "AAAA", then="servfail")
        assert await here.hosts("u@x.test") == [("x.test", ("192.0.2.1",), 0)]


async def test_that_there_is_no_mx_is_confirmed() -> None:
    """Else one false answer would send mail to the wrong host, or bounce it."""
    async with world({"x.test": mx((10, "a.test")), "a.test": [A1], "y.test": [A2]}) as here:
        here.dns.script("x.test", "MX", "nodata", "ok")
        assert await here.hosts("u@x.test") == [("a.test", ("192.0.2.1",), 10)]
        assert await here.hosts("u@y.test") == [("y.test", ("192.0.2.2",), 0)]
        assert here.dns.asked("y.test", "MX") == 2


@pytest.mark.parametrize("ip", ["both", "4"])
async def test_that_a_host_has_no_address_is_confirmed(ip: str) -> None:
    """Of an MX host and of the domain itself: one false answer bounces nobody, two do."""
    records = {"x.test": mx((10, "a.test")), "a.test": [A1], "y.test": [A2], "z.test": mx((10, "b.test"))}
    async with world({**records, "b.test": []}, delivery={"ip": ip}) as here:
        for name in ("a.test", "y.test"):
            here.dns.script(name, "A", "nodata", "ok")
        assert await here.hosts("u@x.test") == [("a.test", ("192.0.2.1",), 10)]
        assert await here.hosts("u@y.test") == [("y.test", ("192.0.2.2",), 0)]
        here.dns.script("b.test", "A", "nodata", "servfail")
        assert await here.verdict("u@z.test") == ("dns", "4.4.3")
        for _ in range(2):
            assert await here.verdict("u@z.test") == ("failed", "5.4.4")
        assert here.dns.asked("b.test", "A") == 3  # trouble is not kept, what was said twice is


async def test_our_own_address() -> None:
    """A listener's address with its port, an own address with any: the host and all of its preference are
    dropped."""
    records = {
        "x.test": mx((10, "us.test"), (10, "peer.test"), (20, "b.test")),
        "us.test": [("A", "127.0.0.9"), A1],
        "peer.test": [A2],
        "b.test": [A3],
        "y.test": mx((5, "c.test"), (10, "nat.test")),
        "c.test": [A3],
        "nat.test": [("A", "203.0.113.7")],
    }
    listeners = [{"address": "127.0.0.9:2500"}]
    async with world(records, listeners=listeners, mx={"port": 2500}) as here:
        assert await here.verdict("u@x.test") == ("failed", "5.4.6")
        assert await here.verdict("u@[127.0.0.9]") == ("failed", "5.4.6")
        assert here.dns.asked("b.test", "A") == 0
    async with world(records, listeners=listeners, delivery={"own_addresses": ["203.0.113.7"]}) as here:
        assert await here.verdict("u@[203.0.113.7]") == ("failed", "5.4.6")
        assert await here.hosts("u@y.test") == [("c.test", ("192.0.2.3",), 5)]
        found = {name for name, _, _ in await here.hosts("u@x.test")}
        assert found == {"us.test", "peer.test", "b.test"}  # port 25 is not ours


async def test_allowed_networks_and_the_alarm() -> None:
    records = {"x.test": mx((10, "a.test")), "a.test": [("A", "127.0.0.5"), ("A", "10.0.0.1")]}
    async with world(records, delivery={"allow_networks": ["127.0.0.0/8"]}) as here:
        assert await here.hosts("u@x.test") == [("a.test", ("127.0.0.5",), 10)]
        assert here.events.refused == [("x.test", "10.0.0.1")]


@pytest.mark.parametrize(
    ("ip", "both", "six"),
    [
        ("both", ("192.0.2.1", "2001:db8::1"), ("2001:db8::1",)),
        ("4", ("192.0.2.1",), None),
        ("6", ("2001:db8::1",), ("2001:db8::1",)),
    ],
)
async def test_families(ip: str, both: tuple[str, ...], six: tuple[str, ...] | None) -> None:
    """A host of the other family exists: that is no permanent failure."""
    async with world({"x.test": [A1, SIX], "six.test": [SIX]}, delivery={"ip": ip}) as here:
        assert await here.hosts("u@x.test") == [("x.test", both, 0)]
        if six:
            assert await here.hosts("u@six.test") == [("six.test", six, 0)]
        else:
            assert await here.verdict("u@six.test") == ("address", "4.4.4")
            assert await here.verdict("u@[IPv6:2001:db8::1]") == ("address", "4.4.4")
            assert await here.verdict("u@gone.test") == ("failed", "5.1.2")


async def test_literals() -> None:
    async with world({}, mx={"port": 2525}) as here:
        found = await here.resolve("u@[192.0.2.9]")
        assert isinstance(found, Hosts)
        (target,) = found.targets(Random(0))
        assert (target.name, target.address, target.port) == ("192.0.2.9", "192.0.2.9", 2525)
        assert await here.hosts("u@[IPv6:2001:db8:0::9]") == [("2001:db8::9", ("2001:db8::9",), 0)]
        assert not here.dns.queries


async def test_no_more_is_asked_than_an_attempt_can_use() -> None:
    """500 MX: the best three hosts have the five addresses; at most 20 are ever looked at."""
    records = {"x.test": mx(*((n, f"m{n}.test") for n in range(500)))}
    records |= {f"m{n}.test": [A1, A2, A3] for n in range(500)}
    records["y.test"] = mx(*((10, f"m{n}.test") for n in range(500)))
    async with world(records) as here:
        assert [name for name, _, _ in await here.hosts("u@x.test")] == ["m0.test", "m1.test", "m2.test"]
        assert sum(query[1] == "A" for query in here.dns.queries) == 3
        assert len(await here.hosts("u@y.test")) == 20


async def test_a_host_with_a_thousand_addresses() -> None:
    async with world({"x.test": [("A", f"192.0.{n // 250}.{n % 250}") for n in range(600, 1600)]}) as here:
        ((_, addresses, _),) = await here.hosts("u@x.test")
        assert len(addresses) == 10


async def test_one_time_budget_for_all_questions() -> None:
    """20 preferences whose hosts never answer: the budget ends it, not 20 time-outs in a row; what is known
    counts."""
    records: Records = {"x.test": mx(*((n, f"m{n}.test") for n in range(20))), "m0.test": [A1]}
    async with world(records, seconds=1.0) as here:
        for n in range(1, 20):
            here.dns.script(f"m{n}.test", "*", then="drop")
        started = asyncio.get_running_loop().time()
        assert await here.hosts("u@x.test") == [("m0.test", ("192.0.2.1",), 0)]
        here.dns.script("m0.test", "*", then="drop")
        assert asyncio.get_running_loop().time() - started < 4
    async with world({**records, "m0.test": []}, seconds=1.0) as here:
        here.dns.script("*", "A", then="drop")
        here.dns.script("*", "AAAA", then="drop")
        assert await here.verdict("u@x.test") == ("dns", "4.4.3")


def test_the_same_on_uvloop() -> None:
    """UDP, TCP, time-outs and a closed port on the loop that is used in production."""
    records = {"x.test": mx((10, "a.test"), (20, "b.test")), "a.test": [A1, SIX], "b.test": [A2]}

    async def scene() -> tuple[object, ...]:
        async with world(records, question_seconds=1.0) as here:
            return await _scene(here)

    assert uvloop.run(scene()) == asyncio.run(scene())


async def _scene(here: World) -> tuple[object, ...]:
    here.dns.script("x.test", "MX", "truncate")
    here.dns.script("slow.test", "*", then="drop")
    here.dns.script("stall.test", "*", then="stall")
    domains: Iterable[str] = ("slow.test", "stall.test", "gone.test", "[127.0.0.1]")
    found: tuple[object, ...] = (*(await here.hosts("u@x.test")),)
    found += tuple(await asyncio.gather(*(here.verdict(f"u@{domain}") for domain in domains)))
    await here.dns.stop()
    return (*found, await here.verdict("u@later.test"))


def test_the_constructor_for_the_application() -> None:
    """Resolver.of takes all from the configuration, and the system's servers where it names none."""
    assert Resolver.of(Config(), Events())
