"""Configured next hops, the texts for people, and what `relay explain` shows."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from fakes.dns import A1, A2, SHORT, mx, world

from relay.demo.dns import Step
from relay.routing.explain import describe
from relay.routing.hosts import DnsDeferred, DnsFailed, Hosts


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
    async with world({}, routes=route("hop.invalid"), question_seconds=SHORT) as here:
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
        "orig_from": "",
        "lane": "mx:x.test",
        "route": "mx",
        "kind": "mx",
        "domain": "x.test",
        "port": 25,
        "tls": "opportunistic",
        "concurrency": 20,
        "messages_per_connection": 100,
        "ca_file": None,
        "username": None,
        "login_by": None,
        "login_over": None,
        "login_files": [],
        "rate": "",
        "connections": None,
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
