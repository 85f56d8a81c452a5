"""Who may relay: clients inside trusted_networks. An IPv4 address written as IPv6 (::ffff:) counts as IPv4.
Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

CACHED = 4096  # verdicts remembered


def plain_address(address: str) -> str:
    """::ffff:192.0.2.1 -> 192.0.2.1; everything else as it stands, without a zone ("%eth0")."""
    if address[:7].lower() == "::ffff:" and "." in address:
        return address[7:]
    return address.partition("%")[0]


class Trust:
    """The verdict on a client's address; remembered, since clients come back."""

    def __init__(self, networks: Iterable[str]) -> None:
        """networks: as in the configuration, already valid. ValueError for one that is not."""
        self._networks = [_plain_network(ipaddress.ip_network(network, strict=False)) for network in networks]
        self._known: dict[str, bool] = {}

    def allows(self, address: str) -> bool:
        """address: as plain_address returns it; anything that is not an address ("" for a local socket) is
        refused."""
        verdict = self._known.get(address)
        if verdict is None:
            if len(self._known) >= CACHED:
                self._known.clear()
            verdict = self._known[address] = self._decide(address)
        return verdict

    def _decide(self, address: str) -> bool:
        try:
            client = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(client in network for network in self._networks)


def _plain_network(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """::ffff:10.0.0.0/104 -> 10.0.0.0/8."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((int(mapped), network.prefixlen - 96))
    return network
