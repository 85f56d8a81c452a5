"""The route table: which lane, and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config.model import Config
from relay.routing import table as table_module
from relay.routing.pattern import parse_pattern
from relay.routing.table import RouteTable
from relay.routing.via import Via


def build(*routes: dict[str, Any], **config: Any) -> RouteTable:
    return RouteTable(Config.model_validate({"routes": routes, **config}))


@pytest.mark.parametrize(
    ("recipient", "lane"),
    [
        ("u@example.com", "mx:example.com"),
        ("u@EXAMPLE.com", "mx:example.com"),
        ("u@example.com.", "mx:example.com"),
        ("u@bücher.example", "mx:xn--bcher-kva.example"),
        ("u@BÜCHER.example", "mx:xn--bcher-kva.example"),
        ("u@xn--bcher-kva.example", "mx:xn--bcher-kva.example"),
        ("u@a\u200b..example", "mx:a\u200b..example"),
        ('"a@b"@example.com', "mx:example.com"),
        ("u@[192.0.2.1]", "mx:[192.0.2.1]"),
        ("u@[IPv6:2001:db8::1]", "mx:[ipv6:2001:db8::1]"),
        ("postmaster", "mx:"),
    ],
)
def test_without_routes_mail_goes_by_mx(recipient: str, lane: str) -> None:
    """Twice: the second answer comes from the memo."""
    table = build()
    assert [lane, lane] == [table.lane("s@example.net", recipient) for _ in range(2)]


@pytest.mark.parametrize(
    ("recipient", "route"),
    [
        ("u@exact.example", "exact"),
        ("u@EXACT.example", "exact"),
        ("u@a.exact.example", "mx"),
        ("u@notexact.example", "mx"),
        ("u@wild.example", "mx"),
        ("u@a.wild.example", "wild"),
        ("u@a.b.c.Wild.Example", "wild"),
        ("u@awild.example", "mx"),
        ("one@person.example", "person"),
        ("ONE@Person.Example", "person"),
        ("two@person.example", "mx"),
        ("one@a.person.example", "mx"),
        ("u@straße.example", "idn"),
        ("u@xn--strae-oqa.example", "idn"),
        ("u@[192.0.2.1]", "literal"),
        ("exact.example", "mx"),
    ],
)
def test_to(recipient: str, route: str) -> None:
    table = build(
        {"name": "exact", "to": ["exact.example"], "via": "h.example"},
        {"name": "wild", "to": ["*.wild.example"], "via": "h.example"},
        {"name": "person", "to": ["one@person.example"], "via": "h.example"},
        {"name": "idn", "to": ["straße.example"], "via": "h.example"},
        {"name": "literal", "to": ["[192.0.2.1]"], "via": "h.example"},
    )
    lane = f"route:{route}" if route != "mx" else "mx:"
    for _ in range(2):
        assert table.lane("s@example.net", recipient).startswith(lane)
        assert route == table.match("s@example.net", recipient)


@pytest.mark.parametrize(
    ("sender", "route"),
    [
        ("", "null"),
        ("s@corp.example", "domain"),
        ("S@CORP.example", "domain"),
        ("s@a.corp.example", "mx"),
        ("s@a.sub.example", "below"),
        ("s@sub.example", "mx"),
        ("ci@dev.example", "address"),
        ("cd@dev.example", "mx"),
        ("corp.example", "mx"),
        ("root", "mx"),
        ("user@", "mx"),
    ],
)
def test_from(sender: str, route: str) -> None:
    """Asked in both orders, so that the memo of one sender is never the answer for another."""
    routes = (
        {"name": "null", "from": ["<>"], "via": "h.example"},
        {"name": "domain", "from": ["@corp.example"], "via": "h.example"},
        {"name": "below", "from": ["*.sub.example"], "via": "h.example"},
        {"name": "address", "from": ["ci@dev.example"], "via": "h.example"},
    )
    table = build(*routes)
    for other in ("", "s@corp.example", "ci@dev.example", "cd@dev.example", sender):
        lane = table.lane(other, "u@to.example")
        assert (lane.removeprefix("route:") if lane.startswith("route:") else "mx") == table.match(
            other, "u@to.example"
        )
    assert route == table.match(sender, "u@to.example")


def test_first_match_wins_and_both_keys_must_match() -> None:
    table = build(
        {"name": "both", "to": ["x.example"], "from": ["@corp.example"], "via": "h.example"},
        {"name": "to", "to": ["x.example"], "via": "h.example"},
        {"name": "all", "via": "h.example"},
        {"name": "never", "to": ["y.example"], "via": "h.example"},
    )
    assert table.lane("s@corp.example", "u@x.example") == "route:both"
    assert table.lane("s@other.example", "u@x.example") == "route:to"
    assert table.lane("s@corp.example", "u@y.example") == "route:all"
    assert table.lane("", "u@x.example") == "route:to"
    assert table.routes == ("both", "to", "all", "never")


def test_a_full_address_does_not_spoil_the_memo_of_its_domain() -> None:
    table = build({"name": "vip", "to": ["vip@x.example"], "from": ["boss@y.example"], "via": "h.example"})
    expected = {
        ("boss@y.example", "vip@x.example"): "route:vip",
        ("boss@y.example", "u@x.example"): "mx:x.example",
        ("s@y.example", "vip@x.example"): "mx:x.example",
        ("s@y.example", "u@x.example"): "mx:x.example",
    }
    for _ in range(2):
        assert expected == {pair: table.lane(*pair) for pair in expected}
        assert expected == {pair: table.lane(*pair) for pair in reversed(expected)}


def test_nor_does_it_without_any_sender_pattern() -> None:
    table = build({"name": "vip", "to": ["vip@x.example"], "via": "h.example"})
    for recipient, lane in [("u", "mx:x.example"), ("vip", "route:vip"), ("u", "mx:x.example")]:
        assert lane == table.lane("s@y.example", f"{recipient}@x.example")


def test_via_mx_has_a_lane_for_each_domain() -> None:
    table = build({"name": "slow", "to": ["*.example"], "via": "mx", "concurrency": 2}, mx={"port": 2525})
    lane = table.lane("", "u@Big.example")
    policy = table.policy(lane)
    assert lane == "route:slow:big.example"
    assert policy is not None
    assert (
        policy.route, policy.kind, policy.domain, policy.port, policy.concurrency
    ) == ("slow", "mx", "big.example", 2525, 2)  # fmt: skip
    literal = table.policy("route:slow:[ipv6:2001:db8::1]")
    assert literal is not None and literal.domain == "[ipv6:2001:db8::1]"


def test_policy() -> None:
    table = build(
        {"name": "hop", "via": ["a.example:587", "smtps://b.example"], "tls": "require", "concurrency": 3},
        {"via": "capture:/srv/sandbox", "messages_per_connection": 7},
        mx={"port": 26, "tls": "none", "concurrency": 4, "messages_per_connection": 5},
    )
    mx, hop, capture = table.policy("mx:x.example"), table.policy("route:hop"), table.policy("route:2")
    assert mx is not None and hop is not None and capture is not None
    assert (
        mx.lane, mx.route, mx.kind, mx.domain, mx.via, mx.capture, mx.port, mx.tls, mx.concurrency,
        mx.messages_per_connection,
    ) == ("mx:x.example", "mx", "mx", "x.example", (), None, 26, "none", 4, 5)  # fmt: skip
    assert ("via", "", (Via("a.example", 587), Via("b.example", 465, True)), "require", 3) == (
        hop.kind, hop.domain, hop.via, hop.tls, hop.concurrency
    )  # fmt: skip
    assert ("2", "capture", Path("/srv/sandbox"), 7) == (
        capture.route, capture.kind, capture.capture, capture.messages_per_connection
    )  # fmt: skip


@pytest.mark.parametrize("lane", ["route:gone", "route:hop:x.example", "route:perdomain", "other", "", "x:y"])
def test_a_lane_that_means_nothing_any_more(lane: str) -> None:
    """A route that a reload removed, or that changed between `via: mx` and next hops."""
    table = build({"name": "hop", "via": "a.example"}, {"name": "perdomain", "via": "mx"})
    assert table.policy(lane) is None


@pytest.mark.parametrize(
    "routes",
    [
        [{"name": "a:b", "via": "h.example"}],
        [{"name": "mx", "via": "h.example"}],
        [{"name": "a", "via": "h.example"}, {"name": "a", "via": "h.example"}],
        [{"name": "2", "via": "h.example"}, {"via": "h.example"}],
    ],
)
def test_names_that_would_be_ambiguous(routes: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="route"):
        build(*routes)


@pytest.mark.parametrize(
    "text", ["", "@", "a b", "*.*.example", "ex*mple.org", "*@example.org", "a@b@", "*.", "x..y", "<>"]
)
def test_wrong_pattern(text: str) -> None:
    with pytest.raises(ValueError):
        parse_pattern(text)


def test_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 7: however many domains come by."""
    monkeypatch.setattr(table_module, "MEMO_LIMIT", 10)
    table = build()
    for number in range(100):
        assert f"mx:d{number}.example" == table.lane("", f"u@d{number}.example")
    assert len(table._memo) <= 10
