"""What is allowed and probably not meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from relay.config.address import is_ip, parse_endpoint
from relay.config.checks import captured
from relay.config.model import Config
from relay.config.units import format_duration


def warnings(config: Config) -> list[str]:
    """One line each."""
    return [text for check in _WARNINGS for text in check(config)]


def _warn_name(config: Config) -> Iterator[str]:
    if config.hostname.endswith(".localdomain"):
        text = f"hostname: this machine has no full name, so the relay calls itself {config.hostname}"
        yield f"{text}; write hostname: with the name other servers know it by"


def _warn_access(config: Config) -> Iterator[str]:
    networks = [ip_network(text) for text in config.trusted_networks]
    for network in networks:
        if network.prefixlen < (8 if network.version == 4 else 16) and not network.is_private:
            yield f"trusted_networks: {network} lets a large part of the internet relay through this machine"
    hosts = [parse_endpoint(listener.address)[0] for listener in config.listeners]
    outside = [host for host in hosts if is_ip(host) and not ip_address(host).is_loopback]
    if outside and all(network.is_loopback for network in networks):
        text = f"trusted_networks: a listener is open on {outside[0]}, and only this machine may relay"
        yield f"{text}; add the networks of your services"
    admin = parse_endpoint(config.admin.address)[0]
    if is_ip(admin) and not ip_address(admin).is_loopback:
        yield f"admin.address: everybody who reaches {config.admin.address} can read it; there is no password"


def _warn_routes(config: Config) -> Iterator[str]:
    for place, route in enumerate(config.routes):
        if captured(route):
            yield f"routes.{place}: mail of {route.name!r} is written to files and sent to nobody"
        if route.ca_file is not None and route.tls != "verify":
            yield f"routes.{place}.ca_file: not used with tls: {route.tls}; write tls: verify"
    everything = next(
        (at for at, each in enumerate(config.routes) if each.to is None and each.from_ is None), None
    )
    if everything is not None and everything + 1 < len(config.routes):
        yield f"routes.{everything + 1}: never used, as routes.{everything} takes all mail; put that one last"


def _warn_limits(config: Config) -> Iterator[str]:
    limits, retry = config.limits, config.retry
    if limits.sessions_per_client > limits.sessions:
        yield f"limits.sessions_per_client: over limits.sessions ({limits.sessions}), so it limits nothing"
    if limits.recipients < 100:  # RFC 5321 section 4.5.3.1.8
        yield "limits.recipients: under 100, which every server should take (RFC 5321)"
    if limits.message_size < 65536:  # RFC 5321 section 4.5.3.1.7
        yield "limits.message_size: under 64KiB, which every server should take (RFC 5321)"
    if retry.give_up < sum(retry.schedule):
        yield f"retry.give_up: {format_duration(retry.give_up)} ends before the schedule is used up"


_WARNINGS: tuple[Callable[[Config], Iterator[str]], ...] = (
    _warn_name,
    _warn_access,
    _warn_routes,
    _warn_limits,
)
