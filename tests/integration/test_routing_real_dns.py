"""The resolver against DNS servers of another make: NSD (authoritative) and Unbound (recursive) in front of
it.

The same zone is asked in both ways: the answers of a recursive server look different (no AA, the alias chain
followed to its end, SERVFAIL for what is broken behind it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from fakes.dns import World, world
from fakes.nsd import dns_server, free_port, nsd
from fakes.tools import require_tool

MANY = "\n".join(f"many IN MX {number} m{number}" for number in range(500))
MANY_ADDRESSES = "\n".join(f"m{number} IN A 192.0.2.{number % 250 + 1}" for number in range(500))
ZONE = f"""\
@         IN MX 20 b
@         IN MX 10 a
a         IN A 192.0.2.1
a         IN AAAA 2001:db8::1
b         IN A 192.0.2.2
implicit  IN A 192.0.2.3
null      IN MX 0 .
nothing   IN TXT "no mail, no address"
gonehosts IN MX 10 gone1
gonehosts IN MX 20 gone2
private   IN MX 10 inside
inside    IN A 10.0.0.1
alias     IN CNAME x.test.
hostalias IN MX 10 c
c         IN CNAME a
loop1     IN CNAME loop2
loop2     IN CNAME loop1
dangling  IN CNAME nowhere.other.test.
*.wild    IN MX 5 a
under.score_host IN MX 5 a
{MANY}
{MANY_ADDRESSES}
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an NSD that serves x.test and nothing else."""
    with nsd(tmp_path_factory.mktemp("nsd"), "x.test", ZONE) as address:
        yield address


@pytest.fixture(scope="module")
def unbound(authority: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Unbound that asks NSD about x.test, and a closed port about all else."""
    program, folder, port = (
        require_tool("unbound", "unbound"),
        tmp_path_factory.mktemp("unbound"),
        free_port(),
    )
    (folder / "unbound.conf").write_text(f"""
server:
  directory: "{folder}"
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  interface: 127.0.0.1@{port}
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "test." nodefault
stub-zone:
  name: "x.test"
  stub-addr: {authority.replace(":", "@")}
stub-zone:
  name: "."
  stub-addr: 127.0.0.1@{free_port()}
remote-control:
  control-enable: no
""")
    command = [program, "-d", "-p", "-c", str(folder / "unbound.conf")]
    with dns_server(command, port, "x.test", folder / "log") as address:
        yield address


@pytest.fixture(params=["authority", "unbound"])
def address(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def through(address: str, question_seconds: float = 5.0) -> AbstractAsyncContextManager[World]:
    return world({}, dns={"servers": [address]}, question_seconds=question_seconds, seconds=20.0)


HOSTS: list[tuple[str, list[tuple[str, tuple[str, ...], int]]]] = [
    ("x.test", [("a.x.test", ("192.0.2.1", "2001:db8::1"), 10), ("b.x.test", ("192.0.2.2",), 20)]),
    ("X.TEST", [("a.x.test", ("192.0.2.1", "2001:db8::1"), 10), ("b.x.test", ("192.0.2.2",), 20)]),
    ("implicit.x.test", [("implicit.x.test", ("192.0.2.3",), 0)]),
    ("alias.x.test", [("a.x.test", ("192.0.2.1", "2001:db8::1"), 10), ("b.x.test", ("192.0.2.2",), 20)]),
    ("hostalias.x.test", [("c.x.test", ("192.0.2.1", "2001:db8::1"), 10)]),
    ("any.thing.wild.x.test", [("a.x.test", ("192.0.2.1", "2001:db8::1"), 5)]),
    ("under.score_host.x.test", [("a.x.test", ("192.0.2.1", "2001:db8::1"), 5)]),
]
VERDICTS = [
    ("gone.x.test", ("failed", "5.1.2")),
    ("null.x.test", ("failed", "5.1.10")),
    ("nothing.x.test", ("failed", "5.4.4")),
    ("wild.x.test", ("failed", "5.4.4")),
    ("gonehosts.x.test", ("failed", "5.4.4")),
    ("private.x.test", ("address", "4.4.4")),
    ("loop1.x.test", ("dns", "4.4.3")),
]


@pytest.mark.parametrize(("domain", "expected"), HOSTS, ids=[case[0] for case in HOSTS])
async def test_hosts(address: str, domain: str, expected: list[tuple[str, tuple[str, ...], int]]) -> None:
    async with through(address) as here:
        assert expected == await here.hosts(f"u@{domain}")


@pytest.mark.parametrize(("domain", "expected"), VERDICTS, ids=[case[0] for case in VERDICTS])
async def test_verdict(address: str, domain: str, expected: tuple[str, str]) -> None:
    async with through(address) as here:
        assert expected == await here.verdict(f"u@{domain}")


async def test_500_mx_do_not_fit_into_a_datagram(address: str) -> None:
    async with through(address) as here:
        found = await here.hosts("u@many.x.test")
        assert [name for name, _, _ in found] == [f"m{number}.x.test" for number in range(5)]


@pytest.mark.parametrize("domain", ["not-served.example", "dangling.x.test"])
async def test_a_zone_that_nobody_serves(address: str, domain: str) -> None:
    """NSD refuses, or leaves the alias open; Unbound says SERVFAIL, or still tries when our time is over."""
    async with through(address, question_seconds=1.0) as here:
        assert await here.verdict(f"u@{domain}") == ("dns", "4.4.3")
        assert {result for _, result in here.events.lookups} <= {"refused", "error", "servfail", "timeout"}


async def test_more_questions_than_go_out_at_one_time(authority: str) -> None:
    """Every one is answered, and the shared MX host is asked about once."""
    async with through(authority) as here:
        found = await asyncio.gather(*(here.hosts(f"u@n{number}.wild.x.test") for number in range(300)))
        assert all(hosts == [("a.x.test", ("192.0.2.1", "2001:db8::1"), 5)] for hosts in found)
        assert here.events.lookups.count(("mx", "ok")) == 300
        assert here.events.lookups.count(("a", "ok")) == 1
