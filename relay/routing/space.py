"""Refused address space: where an MX answer or an address literal must not lead (SSRF, mail loops).

The check is made on the address that is connected to. An IPv6 address that carries an IPv4 one (v4-mapped,
6to4, NAT64, Teredo) is judged by that one too. Configured next hops (`via`) are not asked about: they may be
private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),  # RFC 1122 section 3.2.1.3: "this host"
    ("127.0.0.0/8", "loopback"),
    ("10.0.0.0/8", "private"),  # RFC 1918
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("100.64.0.0/10", "private"),  # RFC 6598: carrier-grade NAT
    ("192.0.0.0/24", "private"),  # RFC 6890: IETF protocol assignments
    ("198.18.0.0/15", "private"),  # RFC 2544: benchmarking
    ("169.254.0.0/16", "link-local"),  # also the metadata services of clouds
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),  # with 255.255.255.255
    ("::1/128", "loopback"),
    ("::/96", "unspecified"),  # "::" and the deprecated IPv4-compatible addresses (RFC 4291 section 2.5.5.1)
    ("fc00::/7", "private"),  # RFC 4193: unique local
    ("fec0::/10", "private"),  # RFC 3879: site-local, deprecated
    ("64:ff9b:1::/48", "private"),  # RFC 8215: local NAT64
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
)
REFUSED: tuple[tuple[Network, str], ...] = tuple((ip_network(text), why) for text, why in _REFUSED)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are the IPv4 address


class AddressSpace:
    """Says of an address whether it may be connected to."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """allowed: networks or addresses that are taken although refused by default. ValueError when not
        one."""
        self._allowed = tuple(ip_network(text, strict=False) for text in allowed)

    def refusal(self, address: str) -> str:
        """Why `address` (IP text) must not be used: "loopback", "private" ...; "" when it may be."""
        for form in _forms(ip_address(address)):
            if any(form in network for network in self._allowed):
                return ""
        for form in _forms(ip_address(address)):
            for network, why in REFUSED:
                if form in network:
                    return why
        return ""


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 addresses inside it."""
    yield address
    if not isinstance(address, IPv6Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo  # the server, then the client
    if address in _NAT64:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
