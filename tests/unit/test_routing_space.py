"""Refused address space, address literals, and who we are."""

from __future__ import annotations

import socket

import pytest

from relay.config.model import Config
from relay.routing.identity import Identity, is_local
from relay.routing.literal import parse_literal
from relay.routing.space import AddressSpace


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("100.127.255.255", "private"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "unspecified"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "private"),
        ("fc00::1", "private"),
        ("fdff::1", "private"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "link-local"),
        ("2002:7f00:1::1", "loopback"),
        ("2002:a00:1::", "private"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b:1::1", "private"),
        ("2001:0:7f00:1::", "loopback"),
        ("2001:0:c000:201::80ff:fffe", "loopback"),
    ],
)
def test_refused(address: str, why: str) -> None:
    """The last two are Teredo: the server's, then the client's address is loopback."""
    assert why == AddressSpace().refusal(address)


@pytest.mark.parametrize(
    "address",
    ["192.0.2.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "126.1.1.1",
     "128.0.0.0", "169.253.0.1", "223.255.255.255", "1.0.0.0", "2001:db8::1", "2002:808:808::1", "fbff::1",
     "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2a00::1"],
)  # fmt: skip
def test_not_refused(address: str) -> None:
    assert AddressSpace().refusal(address) == ""


def test_allowed_networks() -> None:
    """An allowed network opens what is in it, also in IPv6 dress, and nothing else."""
    space = AddressSpace(["10.1.0.0/16", "127.0.0.2", "fd00::/8"])
    assert [
        space.refusal(address) for address in ("10.1.2.3", "127.0.0.2", "fd12::1", "::ffff:10.1.2.3")
    ] == ["", "", "", ""]
    assert [space.refusal(address) for address in ("10.2.0.1", "127.0.0.1", "fc00::1", "fe80::1")] == [
        "private",
        "loopback",
        "private",
        "link-local",
    ]


@pytest.mark.parametrize(
    ("domain", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:DB8::1]", "2001:db8::1"),
        ("[ipv6:::1]", "::1"),
        ("[2001:db8::1]", None),
        ("[IPv6:192.0.2.1]", None),
        ("[ipv6:fe80::1%eth0]", None),
        ("[192.0.2]", None),
        ("[127.1]", None),
        ("[0177.0.0.1]", None),
        ("[]", None),
        ("192.0.2.1", None),
        ("[x-tag:y]", None),
    ],
)
def test_literal(domain: str, address: str | None) -> None:
    """RFC 5321 section 4.1.3; no short forms, no octal, no zones."""
    assert address == parse_literal(domain)


def identity(*listeners: str, hostname: str = "", own: tuple[str, ...] = ()) -> Identity:
    return Identity.of(
        Config.model_validate(
            {
                "hostname": hostname,
                "listeners": [{"address": text} for text in listeners or ("127.0.0.1:2525",)],
                "delivery": {"own_addresses": own},
            }
        )
    )


def test_own_name() -> None:
    assert identity(hostname="Relay.Example.COM").owns_name("relay.example.com")
    assert not identity(hostname="relay.example.com").owns_name("mx.example.com")
    assert not identity().owns_name("")


def test_own_address() -> None:
    """A listener counts with its port, `own_addresses` with any port."""
    ours = identity("127.0.0.1:25", "[::1]:2525", "localhost:26", own=("203.0.113.7", "2001:DB8:0::7"))
    assert [
        ours.owns_address("127.0.0.1", 25),
        ours.owns_address("127.0.0.1", 2525),
        ours.owns_address("::1", 2525),
        ours.owns_address("::1", 25),
        ours.owns_address("127.0.0.1", 26),
        ours.owns_address("203.0.113.7", 2500),
        ours.owns_address("2001:db8::7", 25),
        ours.owns_address("203.0.113.8", 25),
    ] == [True, False, True, False, False, True, True, False]


@pytest.mark.parametrize("listener", ["0.0.0.0:25", "[::]:25"])
def test_a_wildcard_listener_is_every_address_of_this_machine(listener: str) -> None:
    ours = identity(listener)
    assert ours.owns_address("127.0.0.1", 25)
    assert not ours.owns_address("127.0.0.1", 26)
    assert not ours.owns_address("203.0.113.8", 25)


def test_an_ipv4_wildcard_has_no_ipv6_address() -> None:
    assert not identity("0.0.0.0:25").owns_address("::1", 25)


def test_a_machine_that_binds_to_anything_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ip_nonlocal_bind every bind succeeds: no address may be taken for ours on that ground."""

    class Agreeable(socket.socket):
        def bind(self, address: object) -> None: ...

    monkeypatch.setattr(socket, "socket", Agreeable)
    assert not is_local("203.0.113.8")
