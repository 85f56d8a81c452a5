"""Who may relay: every combination of listener, login, proxy and network that is probably not meant."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.access import warnings
from relay.config.model import Config

OPEN, LOOPBACK = {"address": "0.0.0.0:25"}, {"address": "127.0.0.1:25"}
LOGIN = {"tls": "starttls", "auth": "required"}
CHOICE = {"tls": "starttls", "auth": "optional"}
ONLY = "trusted_networks: a listener is open on"
PRIVATE = ["10.0.0.0/8", "192.168.1.0/24", "100.64.0.0/10", "fd00::/8", "2001:db8::/32"]


def told(listeners: list[dict[str, Any]], trusted: list[str], **more: Any) -> list[str]:
    config = {"listeners": listeners, "trusted_networks": trusted, **more}
    return list(warnings(Config.model_validate(config)))


WIDE = ["0.0.0.0/0", "::/0", "128.0.0.0/1", "8.0.0.0/8", "2000::/3", "2600::/12"]
OWN = [*PRIVATE, "198.18.0.0/15", "93.184.0.0/16", "93.184.216.34", "2600:1400::/24"]


@pytest.mark.parametrize("network", WIDE)
@pytest.mark.parametrize(
    "listener",
    [
        OPEN,
        {"address": "[::]:25"},
        {"address": "192.0.2.7:25"},
        {"address": "relay.example.com:25"},
        OPEN | CHOICE,
        OPEN | {"proxy_from": ["10.0.0.1"]},
        LOOPBACK | {"proxy_from": ["127.0.0.1"]},
    ],
)
def test_an_open_relay(listener: dict[str, Any], network: str) -> None:
    """A large public network may relay by its address alone, straight or through a load balancer."""
    (text,) = told([LOOPBACK | {"address": "127.0.0.1:26"}, listener], ["127.0.0.0/8", network])
    assert text.startswith(f"trusted_networks: {network} lets") and str(listener["address"]) in text


@pytest.mark.parametrize("network", WIDE)
@pytest.mark.parametrize(
    "listener", [LOOPBACK, {"address": "localhost:25"}, {"address": "[::1]:25"}, OPEN | LOGIN]
)
def test_no_open_relay(listener: dict[str, Any], network: str) -> None:
    """Nobody comes from outside, or whoever comes must log in."""
    assert told([listener], [network]) == []


@pytest.mark.parametrize("network", OWN)
def test_a_network_of_ones_own(network: str) -> None:
    assert told([OPEN], [network]) == []


@pytest.mark.parametrize(
    ("listeners", "trusted", "start"),
    [
        ([OPEN], ["127.0.0.0/8", "::1"], f"{ONLY} 0.0.0.0:25"),
        ([LOOPBACK | {"proxy_from": ["127.0.0.1"]}], ["127.0.0.1"], f"{ONLY} 127.0.0.1:25"),
        ([OPEN | LOGIN, OPEN | {"address": "0.0.0.0:26"}], ["::1"], f"{ONLY} 0.0.0.0:26"),
        ([LOOPBACK], [], "trusted_networks: empty, and 127.0.0.1:25 takes no logins"),
        ([OPEN], [], "trusted_networks: empty, and 0.0.0.0:25 takes no logins"),
    ],
)  # fmt: skip
def test_everybody_is_refused(listeners: list[dict[str, Any]], trusted: list[str], start: str) -> None:
    """A listener where nobody who comes may relay."""
    (text,) = told(listeners, trusted)
    assert text.startswith(start)


@pytest.mark.parametrize(
    ("listeners", "trusted"),
    [
        ([OPEN | LOGIN], ["127.0.0.0/8"]),
        ([OPEN | LOGIN], []),
        ([OPEN | CHOICE], ["127.0.0.0/8"]),
        ([OPEN], ["127.0.0.0/8", "10.0.0.0/8"]),
        ([LOOPBACK], ["127.0.0.0/8"]),
    ],
)
def test_somebody_may_relay(listeners: list[dict[str, Any]], trusted: list[str]) -> None:
    """By address or by login."""
    assert told(listeners, trusted) == []


def test_whoever_may_claim_an_address() -> None:
    """A PROXY header from anybody opens the relay, whatever is trusted."""
    (text,) = told([LOOPBACK, OPEN | {"proxy_from": ["10.0.0.0/8", "0.0.0.0/0"]}], PRIVATE)
    assert text.startswith("listeners.1.proxy_from: whoever is in 0.0.0.0/0 can claim")
    assert told([OPEN | LOGIN | {"proxy_from": ["0.0.0.0/0"]}], PRIVATE) == []


def test_the_admin_side() -> None:
    """It has no password."""
    (text,) = told([LOOPBACK], ["::1"], admin={"address": "0.0.0.0:9525"})
    assert text.startswith("admin.address: everybody who reaches 0.0.0.0:9525")
