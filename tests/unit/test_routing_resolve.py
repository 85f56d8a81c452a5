"""Section 6 of the design, stage DNS, row by row: against a small DNS server on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
import uvloop
from fakes.dns import World, world

from relay.config.model import Config
from relay.demo.dns import Record, Step
from relay.routing.explain import describe
from relay.routing.hosts import DnsDeferred, DnsFailed, Hosts

Records = dict[str, list[Record]]
A1, A2, A3 = ("A", "192.0.2.1"), ("A", "192.0.2.2"), ("A", "192.0.2.3")
SIX = ("AAAA", "2001:db8::1")


def mx(*pairs: tuple[int, str]) -> list[Record]:
    return [("MX", f"{preference} {host}.") for preference, host in pairs]


GOOD: list[tuple[str, Records, list[tuple[str, tuple[str, ...], int]]]] = [
    (
        "order of preference",
        {"x.test": mx((20, "b.test"), (10, "a.test")), "a.test": [A1], "b.test": [A2]},
        [("a.test", ("192.0.2.1",), 10), ("b.test", ("192.0.2.2",), 20)],
    ),
    (
        "both families",
        {"x.test": mx((10, "a.test")), "a.test": [A1, SIX]},
        [("a.test", ("192.0.2.1", "2001:db8::1"), 10)],
    ),
    ("implicit MX", {"x.test": [A1, SIX]}, [("x.test", ("192.0.2.1", "2001:db8::1"), 0)]),
    (
        "domain is an alias",
        {"x.test": [("CNAME", "y.test.")], "y.test": mx((10, "a.test")), "a.test": [A1]},
        [("a.test", ("192.0.2.1",), 10)],
    ),
    (
        "MX host is an alias",
        {"x.test": mx((10, "a.test")), "a.test": [("CNAME", "b.test.")], "b.test": [A2]},
        [("a.test", ("192.0.2.2",), 10)],
    ),
    (
        "one MX host does not exist",
        {"x.test": mx((10, "gone.test"), (20, "a.test")), "a.test": [A1]},
        [("a.test", ("192.0.2.1",), 20)],
    ),
    (
        "one address is refused",
        {"x.test": mx((10, "a.test")), "a.test": [("A", "10.0.0.1"), A1]},
        [("a.test", ("192.0.2.1",), 10)],
    ),
    (
        "one host is refused",
        {"x.test": mx((10, "a.test"), (20, "b.test")), "a.test": [("A", "127.0.0.1")], "b.test": [A2]},
        [("b.test", ("192.0.2.2",), 20)],
    ),
    (
        "a dot among others is no null MX",
        {"x.test": [("MX", "0 ."), ("MX", "10 a.test.")], "a.test": [A1]},
        [("a.test", ("192.0.2.1",), 10)],
    ),
    (
        "an address in place of a host is passed over",
        {"x.test": mx((10, "169.254.169.254"), (20, "a.test")), "a.test": [A1]},
        [("a.test", ("192.0.2.1",), 20)],
    ),
    (
        "the same host twice counts once",
        {"x.test": mx((10, "a.test"), (20, "a.test")), "a.test": [A1]},
        [("a.test", ("192.0.2.1",), 10)],
    ),
    (
        "upper case",
        {"x.test": mx((10, "A.Test")), "a.test": [A1]},
        [("a.test", ("192.0.2.1",), 10)],
    ),
    (
        "hosts better than our own",
        {
            "x.test": mx((5, "a.test"), (10, "relay.sender.test"), (20, "b.test")),
            "a.test": [A1],
            "b.test": [A2],
        },
        [("a.test", ("192.0.2.1",), 5)],
    ),
]


@pytest.mark.parametrize(("records", "expected"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
async def test_hosts(records: Records, expected: list[tuple[str, tuple[str, ...], int]]) -> None:
    async with world(records) as here:
        assert expected == await here.hosts("u@x.test")


LONG = "a" * 63
VERDICTS: list[tuple[str, str, Records, tuple[str, str]]] = [
    ("NXDOMAIN", "x.test", {}, ("failed", "5.1.2")),
    ("label over 63 octets", f"{LONG}a.test", {}, ("failed", "5.1.2")),
    ("name over 255 octets", ".".join([LONG] * 4), {}, ("failed", "5.1.2")),
    ("empty label", "x..test", {"x.test": [A1]}, ("failed", "5.1.2")),
    ("not IDNA", "☃.x\u200b.test", {}, ("failed", "5.1.2")),
    ("not a literal", "[300.0.0.1]", {}, ("failed", "5.1.2")),
    ("null MX", "x.test", {"x.test": [("MX", "0 ."), A1]}, ("failed", "5.1.10")),
    ("no MX, no address", "x.test", {"x.test": [("TXT", "hello")]}, ("failed", "5.4.4")),
    ("name between names", "x.test", {"a.x.test": [A1]}, ("failed", "5.4.4")),
    ("no MX host exists", "x.test", {"x.test": mx((10, "a.test"), (20, "b.test"))}, ("failed", "5.4.4")),
    (
        "MX hosts without address",
        "x.test",
        {"x.test": mx((10, "a.test"), (20, "b.test")), "a.test": [("TXT", "hello")]},
        ("failed", "5.4.4"),
    ),
    ("MX is an address", "x.test", {"x.test": mx((10, "192.0.2.1"))}, ("failed", "5.4.4")),
    (
        "we are the best MX, by name",
        "x.test",
        {"x.test": mx((10, "relay.sender.test"), (20, "a.test")), "a.test": [A1]},
        ("failed", "5.4.6"),
    ),
    (
        "we are one of the best",
        "x.test",
        {"x.test": mx((10, "Relay.Sender.Test"), (10, "a.test")), "a.test": [A1]},
        ("failed", "5.4.6"),
    ),
    ("we are the only host of it", "relay.sender.test", {"relay.sender.test": [A1]}, ("failed", "5.4.6")),
    (
        "alias loop",
        "x.test",
        {"x.test": [("CNAME", "y.test.")], "y.test": [("CNAME", "x.test.")]},
        ("dns", "4.4.3"),
    ),
    (
        "chain too long",
        "x.test",
        {f"{'x' * n}.test": [("CNAME", f"{'x' * (n + 1)}.test.")] for n in range(1, 30)},
        ("dns", "4.4.3"),
    ),
    (
        "refused",
        "x.test",
        {"x.test": mx((10, "a.test")), "a.test": [("A", "192.168.0.1")]},
        ("address", "4.4.4"),
    ),
    (
        "refused in IPv6 dress",
        "x.test",
        {"x.test": mx((10, "a.test")), "a.test": [("AAAA", "::ffff:127.0.0.1"), ("AAAA", "2002:7f00:1::")]},
        ("address", "4.4.4"),
    ),
    ("implicit MX is refused", "x.test", {"x.test": [("A", "169.254.169.254")]}, ("address", "4.4.4")),
    ("refused literal", "[127.0.0.1]", {}, ("address", "4.4.4")),
    ("refused IPv6 literal", "[IPv6:::1]", {}, ("address", "4.4.4")),
    (
        "refused or gone",
        "x.test",
        {"x.test": mx((10, "a.test"), (20, "gone.test")), "a.test": [("A", "10.1.1.1")]},
        ("address", "4.4.4"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "records", "expected"), [case[1:] for case in VERDICTS], ids=[case[0] for case in VERDICTS]
)
async def test_verdict(domain: str, records: Records, expected: tuple[str, str]) -> None:
    async with world(records) as here:
        assert expected == await here.verdict(f"u@{domain}")


TROUBLE: tuple[tuple[Step, str], ...] = (
    ("servfail", "servfail"),
    ("refused", "refused"),
    ("formerr", "error"),
    ("lame", "error"),
    ("referral", "error"),
    ("drop", "timeout"),
    ("stall", "timeout"),
)


@pytest.mark.parametrize(("step", "result"), TROUBLE)
@pytest.mark.parametrize("name", ["x.test", "a.test"])
async def test_trouble_is_temporary(step: Step, result: str, name: str) -> None:
    """Promise 5, with the domain's and with the MX host's name; and counted for what it is."""
    async with world({"x.test": mx((10, "a.test")), "a.test": [A1]}) as here:
        here.dns.script(name, "*", then=step)
        assert await here.verdict("u@x.test") == ("dns", "4.4.3")
        assert result in {said for _, said in here.events.lookups}


async def test_nobody_listens() -> None:
    """The port is closed (the socket is bound and does not listen, so that nobody else gets it)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        closed.connect(("127.0.0.1", 9))  # only that peer's datagrams are taken: ours are refused
        async with world({}, dns={"servers": [f"127.0.0.1:{closed.getsockname()[1]}"]}) as here:
            assert await here.verdict("u@x.test") == ("dns", "4.4.3")
            assert here.events.lookups == [("mx", "timeout")]


async def test_trouble_with_one_host_does_not_matter_while_another_is_known() -> None:
    records = {"x.test": mx((10, "a.test"), (20, "b.test")), "a.test": [A1], "b.test": [A2]}
    async with world(records) as here:
        here.dns.script("a.test", "*", then="servfail")
        assert await here.hosts("u@x.test") == [("b.test", ("192.0.2.2",), 20)]


async def test_trouble_with_one_family_does_not_matter_while_the_other_is_known() -> None:
    async with world({"x.test": mx((10, "a.test")), "a.test": [A1]}) as here:
        here.dns.script("a.test", "AAAA", then="servfail")
        assert await here.hosts("u@x.test") == [("a.test", ("192.0.2.1",), 10)]


@pytest.mark.parametrize("others", [{}, {"b.test": [("A", "10.0.0.1")]}], ids=["gone", "refused"])
async def test_doubt_about_one_host_forbids_a_permanent_verdict(others: Records) -> None:
    """The others do not exist, or are refused: what is unknown may exist."""
    async with world({"x.test": mx((10, "a.test"), (20, "b.test")), **others}) as here:
        here.dns.script("a.test", "*", then="servfail")
        assert await here.verdict("u@x.test") == ("dns", "4.4.3")


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
    async with world(records, seconds=0.3) as here:
        for n in range(1, 20):
            here.dns.script(f"m{n}.test", "*", then="drop")
        started = asyncio.get_running_loop().time()
        assert await here.hosts("u@x.test") == [("m0.test", ("192.0.2.1",), 0)]
        here.dns.script("m0.test", "*", then="drop")
        assert asyncio.get_running_loop().time() - started < 1.5
    async with world({**records, "m0.test": []}, seconds=0.3) as here:
        here.dns.script("*", "A", then="drop")
        here.dns.script("*", "AAAA", then="drop")
        assert await here.verdict("u@x.test") == ("dns", "4.4.3")


def route(*via: str) -> list[dict[str, Any]]:
    return [{"name": "hop", "via": list(via)}]


async def test_via_in_listed_order() -> None:
    """No MX is asked; private addresses are taken; each hop keeps its port and kind of TLS."""
    records = {"b.test": [("A", "10.0.0.2"), ("MX", "1 wrong.test.")], "a.test": [("A", "127.0.0.3")]}
    routes = route("b.test:587", "smtps://a.test", "192.168.0.1:2525", "[fd00::1]:26")
    async with world(records, routes=routes) as here:
        found = await here.resolve("u@x.test")
        assert isinstance(found, Hosts)
        assert [
            (target.name, target.address, target.port, target.implicit_tls)
            for target in found.targets(Random(0))
        ] == [
            ("b.test", "10.0.0.2", 587, False),
            ("a.test", "127.0.0.3", 465, True),
            ("192.168.0.1", "192.168.0.1", 2525, False),
            ("fd00::1", "fd00::1", 26, False),
        ]
        assert not here.events.refused
        assert all(kind != "MX" for _, kind, _ in here.dns.queries)


@pytest.mark.parametrize("step", ["nxdomain", "nodata", "servfail", "drop"])
async def test_a_next_hop_that_is_not_found_is_temporary(step: Step) -> None:
    """It is the operator's mistake, and nobody's mail is bounced for it. (".invalid" is unknown to every
    system.)"""
    async with world({}, routes=route("hop.invalid")) as here:
        here.dns.script("*", "*", then=step)
        assert await here.verdict("u@x.test") == ("dns", "4.4.3")


async def test_one_next_hop_of_two_is_enough() -> None:
    async with world({"b.test": [A2]}, routes=route("hop.invalid", "b.test")) as here:
        assert await here.hosts("u@x.test") == [("b.test", ("192.0.2.2",), 1)]


async def test_a_next_hop_of_the_hosts_file() -> None:
    """The DNS does not know "localhost"; the system does."""
    async with world({}, routes=route("localhost:1025"), delivery={"ip": "4"}) as here:
        assert await here.hosts("u@x.test") == [("localhost", ("127.0.0.1",), 0)]


async def test_a_capture_lane_has_no_hosts() -> None:
    async with world({}, routes=[{"name": "box", "via": "capture:/srv/box"}]) as here:
        with pytest.raises(ValueError, match="directory"):
            await here.resolve("u@x.test")
        facts = await describe(here.table, here.resolver, "u@x.test")
        assert (facts["verdict"], facts["capture"], facts["hosts"]) == ("capture", "/srv/box", [])


async def test_texts_are_for_people() -> None:
    """What a bounce and `queue show` will say."""
    records = {"x.test": mx((10, "a.test"), (20, "gone.test")), "a.test": [("A", "127.0.0.1")]}
    async with world(records) as here:
        refused, failed = await here.resolve("u@x.test"), await here.resolve("u@gone.test")
        here.dns.script("sick.test", "MX", then="servfail")
        sick = await here.resolve("u@sick.test")
        assert (
            isinstance(refused, DnsDeferred)
            and isinstance(failed, DnsFailed)
            and isinstance(sick, DnsDeferred)
        )
        assert refused.reply.line == (
            "4.4.4 addresses of x.test are in refused networks: a.test: 127.0.0.1 (loopback)"
        )
        assert failed.reply.line == "5.1.2 domain gone.test does not exist: NXDOMAIN"
        assert sick.reply.line == f"4.4.3 DNS lookup of sick.test MX failed: SERVFAIL from {here.dns.address}"


async def test_explain() -> None:
    """All hosts, also those behind our own, with what is wrong with them."""
    records = {
        "x.test": mx(
            (10, "a.test"), (20, "gone.test"), (30, "us.test"), (40, "relay.sender.test"), (50, "b.test")
        ),
        "a.test": [A1, ("A", "10.0.0.1")],
        "us.test": [("A", "203.0.113.7")],
        "b.test": [A2],
    }
    async with world(records, delivery={"own_addresses": ["203.0.113.7"]}) as here:
        facts = await describe(here.table, here.resolver, "u@x.test", "s@sender.test")
    hosts = facts.pop("hosts")
    assert facts == {
        "recipient": "u@x.test",
        "sender": "s@sender.test",
        "lane": "mx:x.test",
        "route": "mx",
        "kind": "mx",
        "domain": "x.test",
        "port": 25,
        "tls": "opportunistic",
        "concurrency": 20,
        "messages_per_connection": 100,
        "capture": None,
        "verdict": "hosts",
        "reply": "",
    }
    assert [(host["name"], host["state"], host["addresses"], host["refused"]) for host in hosts] == [
        ("a.test", "usable", ["192.0.2.1"], [{"address": "10.0.0.1", "why": "private"}]),
        ("gone.test", "nothing", [], []),
        ("us.test", "ours", ["203.0.113.7"], []),
        ("relay.sender.test", "ours", [], []),
        ("b.test", "dropped", [], []),
    ]


async def test_a_dot_among_other_mx_is_no_host() -> None:
    """RFC 7505 section 3: a null MX stands alone."""
    async with world({"x.test": [("MX", "0 ."), ("MX", "10 a.test.")], "a.test": [A1]}) as here:
        facts = await describe(here.table, here.resolver, "u@x.test")
        assert [host["name"] for host in facts["hosts"]] == ["a.test"]


async def test_explain_a_verdict() -> None:
    async with world({}) as here:
        facts = await describe(here.table, here.resolver, "u@x.test")
        assert (facts["verdict"], facts["reply"]) == (
            "failed",
            "5.1.2 domain x.test does not exist: NXDOMAIN",
        )
        here.dns.script("y.test", "*", then="refused")
        facts = await describe(here.table, here.resolver, "u@y.test")
        assert facts["verdict"] == "deferred"


def test_the_same_on_uvloop() -> None:
    """UDP, TCP, time-outs and a closed port on the loop that is used in production."""
    records = {"x.test": mx((10, "a.test"), (20, "b.test")), "a.test": [A1, SIX], "b.test": [A2]}

    async def scene() -> tuple[object, ...]:
        async with world(records) as here:
            return await _scene(here)

    assert uvloop.run(scene()) == asyncio.run(scene())


async def _scene(here: World) -> tuple[object, ...]:
    here.dns.script("x.test", "MX", "truncate")
    here.dns.script("slow.test", "*", then="drop")
    here.dns.script("stall.test", "*", then="stall")
    domains: Iterable[str] = ("slow.test", "stall.test", "gone.test", "[127.0.0.1]")
    found: tuple[object, ...] = (*(await here.hosts("u@x.test")),)
    found += tuple([await here.verdict(f"u@{domain}") for domain in domains])
    await here.dns.stop()
    return (*found, await here.verdict("u@later.test"))


def test_the_constructor_for_the_application() -> None:
    """Resolver.of takes all from the configuration, and the system's servers where it names none."""
    from relay.observe.events import Events
    from relay.routing.resolve import Resolver

    assert Resolver.of(Config(), Events())
