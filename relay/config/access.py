"""Who reaches the relay, and who of them may relay: what is allowed there and probably not meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from relay.config.address import is_ip, parse_endpoint
from relay.config.model import Config, Listener

WIDE = {4: 16, 6: 20}  # a network of public addresses with a shorter prefix is no organisation's own


def warnings(config: Config) -> Iterator[str]:
    """One line each."""
    yield from _open_relay(config)
    yield from _nobody(config)
    yield from _claims(config)
    if not on_loopback(config.admin.address):
        yield f"admin.address: everybody who reaches {config.admin.address} can read it; there is no password"


def on_loopback(endpoint: str) -> bool:
    """Does it take connections of this machine only? A name other than localhost is taken to lead outside."""
    host = parse_endpoint(endpoint)[0]
    return ip_address(host).is_loopback if is_ip(host) else host.lower() == "localhost"


def is_outside(listener: Listener) -> bool:
    """Do clients of other machines come to it, by themselves or through a load balancer?"""
    return bool(listener.proxy_from) or not on_loopback(listener.address)


def by_address(config: Config) -> list[Listener]:
    """The listeners where clients of other machines may relay by their address alone."""
    return [each for each in config.listeners if each.auth != "required" and is_outside(each)]


def _open_relay(config: Config) -> Iterator[str]:
    doors = by_address(config)
    for network in map(ip_network, config.trusted_networks if doors else ()):
        if is_wide(network):
            text = f"trusted_networks: {network} lets a large part of the internet relay through"
            yield f"{text} {doors[0].address}; write your own networks, or auth: required"


def is_wide(network: IPv4Network | IPv6Network) -> bool:
    return network.prefixlen < WIDE[network.version] and network.is_global


def _nobody(config: Config) -> Iterator[str]:
    """Listeners at which everybody is refused."""
    closed = [each for each in config.listeners if each.auth == "off"]
    if not config.trusted_networks:
        if closed:
            yield f"trusted_networks: empty, and {closed[0].address} takes no logins: nobody may relay there"
        return
    outside = [each.address for each in closed if is_outside(each)]
    if outside and all(ip_network(text).is_loopback for text in config.trusted_networks):
        text = f"trusted_networks: a listener is open on {outside[0]}, and only this machine may relay"
        yield f"{text}; add the networks of your services, or let them log in (auth)"


def _claims(config: Config) -> Iterator[str]:
    """Who sends a PROXY header can give any address for the client's."""
    for place, listener in enumerate(config.listeners):
        for network in map(ip_network, listener.proxy_from if listener.auth != "required" else ()):
            if is_wide(network):
                text = f"listeners.{place}.proxy_from: whoever is in {network} can claim a trusted address"
                yield f"{text}; write the addresses of the load balancers alone"
