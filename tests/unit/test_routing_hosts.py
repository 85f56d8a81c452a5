"""The addresses of one attempt, and their order."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.routing.hosts import Host, Hosts
from relay.routing.target import Target


def names(hosts: Hosts, seed: int = 0, limit: int = 5) -> list[str]:
    return [target.name for target in hosts.targets(Random(seed), limit)]


def test_in_the_order_of_preference() -> None:
    hosts = Hosts(
        (Host("a", ("192.0.2.1",), 25, preference=10), Host("b", ("192.0.2.2",), 25, preference=20))
    )
    assert all(names(hosts, seed) == ["a", "b"] for seed in range(20))


def test_random_among_equals() -> None:
    """RFC 5321 section 5.1: "the sender-SMTP MUST randomize them"; drawn anew each time."""
    hosts = Hosts(tuple(Host(name, ("192.0.2.1",), 25, preference=10) for name in "abc"))
    random = Random(1)
    first = Counter(hosts.targets(random)[0].name for _ in range(3000))
    assert all(800 < first[name] < 1200 for name in "abc")
    assert [names(hosts, 7)] * 2 == [names(hosts, 7), names(hosts, 7)]


def test_families_in_turns() -> None:
    host = Host("a", ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"), 25)
    for seed in range(10):
        found = [":" in target.address for target in Hosts((host,)).targets(Random(seed))]
        assert found == [True, False, True, False, False]


def test_a_host_with_many_addresses_does_not_crowd_out_the_next() -> None:
    many = tuple(f"192.0.2.{number}" for number in range(1, 11))
    hosts = Hosts(
        (
            Host("a", many, 25, preference=1),
            Host("b", many, 25, preference=2),
            Host("c", many, 25, preference=3),
        )
    )
    assert names(hosts) == ["a", "a", "b", "b", "c"]
    assert names(Hosts(hosts.hosts[:2])) == ["a", "a", "a", "b", "b"]
    assert names(Hosts(hosts.hosts[:1])) == ["a"] * 5


def test_a_target_is_complete() -> None:
    hosts = Hosts((Host("a.example", ("192.0.2.1",), 465, True, 7),))
    assert [Target("a.example", "192.0.2.1", 465, True, 7)] == hosts.targets(Random(0))


_addresses = st.lists(
    st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)),
    min_size=1,
    max_size=10,
    unique=True,
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), _addresses), min_size=1, max_size=8),
    st.integers(),
    st.integers(1, 8),
)
def test_any_hosts(found: list[tuple[int, list[str]]], seed: int, limit: int) -> None:
    """As many targets as there is room and addresses for, none twice, preference never falling."""
    found.sort(key=lambda pair: pair[0])
    hosts = Hosts(
        tuple(
            Host(str(place), tuple(addresses), 25, preference=pref)
            for place, (pref, addresses) in enumerate(found)
        )
    )
    targets = hosts.targets(Random(seed), limit)
    assert len(targets) == min(limit, sum(len(addresses) for _, addresses in found))
    assert len(set(targets)) == len(targets)
    assert [target.preference for target in targets] == sorted(target.preference for target in targets)
    assert all(target.address in found[int(target.name)][1] for target in targets)
