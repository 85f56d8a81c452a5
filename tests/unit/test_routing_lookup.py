"""The memory of DNS answers, and what is taken for a server."""

from __future__ import annotations

import asyncio

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from fakes.clock import FakeClock
from fakes.dns import A1, RoutingEvents, mx, short_client, world

from relay.demo.dns import SmallDns
from relay.routing.lookup import Lookup
from relay.routing.query import Answer, DnsClient, Kind, parse_server
from relay.routing.query import _answer as answer_of


async def test_answers_are_kept_for_their_ttl() -> None:
    """Clamped to 30 s at least and an hour at most; nothing at all 5 minutes at most."""
    for ttl, kept in ((0, 30), (100, 100), (100_000, 3600)):
        async with SmallDns({"a.test": [("A", "192.0.2.1")]}, ttl=ttl) as dns:
            clock = FakeClock()
            lookup = Lookup(short_client([dns.address]), RoutingEvents(), clock.monotonic)
            assert (await lookup.ask("a.test", "A")).addresses == ("192.0.2.1",)
            clock.advance(kept - 1)
            await lookup.ask("a.test", "A")
            assert dns.asked("a.test", "A") == 1
            clock.advance(2)
            await lookup.ask("a.test", "A")
            assert dns.asked("a.test", "A") == 2


class Script(DnsClient):
    """Answers as told, and counts."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Semaphore(0)
        self.at_once = self.most_at_once = 0

    async def query(self, name: str, kind: Kind, *, again: bool = False) -> Answer:
        self.asked.append((name, kind))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.release()
        await self.gate.wait()
        self.at_once -= 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(("ttl", "kept"), [(0.0, 30.0), (100.0, 100.0), (3000.0, 300.0)])
async def test_absence_is_kept_for_a_shorter_time(ttl: float, kept: float) -> None:
    clock, client = FakeClock(), Script(Answer("nodata", ttl=ttl))
    lookup = Lookup(client, RoutingEvents(), clock.monotonic)
    for wait, asked in ((0.0, 1), (kept - 1, 1), (2.0, 2)):
        clock.advance(wait)
        await lookup.ask("a.test", "MX")
        assert len(client.asked) == asked


async def test_trouble_is_not_kept() -> None:
    client = Script(Answer("servfail"), Answer("ok", addresses=("192.0.2.1",), ttl=60))
    lookup = Lookup(client, RoutingEvents())
    assert not (await lookup.ask("a.test", "A")).definite
    assert (await lookup.ask("a.test", "A")).definite


async def test_equal_questions_at_one_time_are_one_query() -> None:
    client, events = Script(Answer("ok", addresses=("192.0.2.1",))), RoutingEvents()
    lookup = Lookup(client, events)
    client.gate.clear()
    askers = [asyncio.create_task(lookup.ask("a.test", "A")) for _ in range(50)]
    await asyncio.sleep(0)
    client.gate.set()
    assert {answer.addresses for answer in await asyncio.gather(*askers)} == {("192.0.2.1",)}
    assert (client.asked, events.lookups) == ([("a.test", "A")], [("a", "ok")])


async def test_an_asker_that_gives_up_does_not_take_the_answer_from_the_others() -> None:
    client = Script(Answer("ok", addresses=("192.0.2.1",)))
    lookup = Lookup(client, RoutingEvents())
    client.gate.clear()
    first, second = (asyncio.create_task(lookup.ask("a.test", "A")) for _ in range(2))
    await client.arrived.acquire()
    first.cancel()
    client.gate.set()
    assert (await second).addresses == ("192.0.2.1",)
    assert first.cancelled() and len(client.asked) == 1


async def test_the_store_is_bounded_and_forgets_the_least_used() -> None:
    """Promise 7."""
    client = Script(Answer("ok", addresses=("192.0.2.1",), ttl=600))
    lookup = Lookup(client, RoutingEvents(), entries=10)
    for number in range(100):
        await lookup.ask("often.test", "A")
        await lookup.ask(f"n{number}.test", "A")
    assert len(lookup._kept) == 10
    assert client.asked.count(("often.test", "A")) == 1


async def test_queries_at_one_time_are_bounded() -> None:
    client = Script(Answer("ok", ttl=600))
    lookup = Lookup(client, RoutingEvents(), queries=7)
    client.gate.clear()
    askers = [asyncio.create_task(lookup.ask(f"n{number}.test", "A")) for number in range(100)]
    for _ in range(7):
        await client.arrived.acquire()
    client.gate.set()
    await asyncio.gather(*askers)
    assert client.most_at_once == 7
    assert len(client.asked) == 100


async def test_close_ends_what_is_under_way() -> None:
    client = Script(Answer("ok"))
    lookup = Lookup(client, RoutingEvents())
    client.gate.clear()
    asker = asyncio.create_task(lookup.ask("a.test", "A"))
    await client.arrived.acquire()
    await lookup.close()
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert not lookup._asked


@pytest.mark.parametrize(("step", "count"), [("nxdomain", 2), ("nodata", 2), ("ok", 1), ("servfail", 1)])
async def test_every_query_is_counted(step: str, count: int) -> None:
    """events.dns_lookup: one for each question that went out, none for what memory answers."""
    async with world({"a.test": [A1, *mx((10, "a.test"))]}) as here:
        here.dns.script("a.test", "MX", then=step)  # type: ignore[arg-type]
        await here.resolve("u@a.test")
        asked = [lookup for lookup in here.events.lookups if lookup[0] == "mx"]
        assert len(asked) == count
        before = len(here.events.lookups)
        await here.resolve("u@a.test")
        again = len(here.events.lookups) - before
        assert again == (1 if step == "servfail" else 0)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("2001:DB8::1", ("2001:db8::1", 53)),
    ],
)
def test_server(text: str, server: tuple[str, int]) -> None:
    assert server == parse_server(text)


@pytest.mark.parametrize(
    "text", ["", "dns.example", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "[::1]x", "[::1"]
)
def test_wrong_server(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        parse_server(text)


@pytest.mark.parametrize(("authority", "result"), [("", "error"), ("SOA", "nodata"), ("NS", "error")])
def test_an_alias_that_leads_nowhere(authority: str, result: str) -> None:
    """Only an SOA says that nothing is there (RFC 2308 section 2.2); else the server did not look further."""
    question = dns.message.make_query("alias.test.", "A")
    response = dns.message.make_response(question)
    assert isinstance(response, dns.message.QueryMessage)
    response.flags |= dns.flags.AA
    response.answer.append(dns.rrset.from_text("alias.test.", 60, "IN", "CNAME", "other.test."))
    texts = {"SOA": "ns.test. root.test. 1 60 60 60 30", "NS": "ns.test."}
    if authority:
        response.authority.append(dns.rrset.from_text("test.", 60, "IN", authority, texts[authority]))
    found = dns.resolver.Answer(
        dns.name.from_text("alias.test."), dns.rdatatype.A, dns.rdataclass.IN, response
    )
    assert answer_of(found).result == result
