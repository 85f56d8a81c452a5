"""The verdicts of the DNS, row by row: against a small DNS server on loopback."""

from __future__ import annotations

import socket

import pytest
from fakes.dns import A1, A2, SHORT, SIX, USUAL, Records, mx, world

from relay.demo.dns import Step

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
    records = {"x.test": mx((10, "a.test")), "a.test": [A1]}
    async with world(records, question_seconds=SHORT if result == "timeout" else USUAL) as here:
        here.dns.script(name, "*", then=step)
        assert await here.verdict("u@x.test") == ("dns", "4.4.3")
        assert result in {said for _, said in here.events.lookups}


async def test_nobody_listens() -> None:
    """The port is closed (the socket is bound and does not listen, so that nobody else gets it)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        closed.connect(("127.0.0.1", 9))  # only that peer's datagrams are taken: ours are refused
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        async with world({}, dns={"servers": [address]}, question_seconds=SHORT) as here:
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
