"""Who we are: enough to see our own host among a domain's MX (RFC 5321 section 5.1).

A host is ours by name (our hostname), by address (`delivery.own_addresses`, any port: the public address of a
machine behind NAT), or by the address and port of a listener. A listener on the wildcard address is every
address of this machine.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address

from relay.config.model import Config
from relay.routing.domain import fold

_NOT_OURS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # documentation: RFC 5737, RFC 3849


@dataclass(frozen=True, slots=True)
class Identity:
    """hostname: folded; addresses: canonical IP texts; listeners: (canonical IP text, port)."""

    hostname: str = ""
    addresses: frozenset[str] = frozenset()
    listeners: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of(cls, config: Config) -> Identity:
        """ValueError: an address in the configuration is not one."""
        return cls(
            fold(config.hostname),
            frozenset(str(ip_address(text)) for text in config.delivery.own_addresses),
            frozenset(filter(None, (_listener(listener.address) for listener in config.listeners))),
        )

    def owns_name(self, name: str) -> bool:
        return bool(self.hostname) and name == self.hostname

    def owns_address(self, address: str, port: int) -> bool:
        """address: canonical IP text; port: where a connection would be made."""
        if address in self.addresses or (address, port) in self.listeners:
            return True
        wildcard = "::" if ":" in address else "0.0.0.0"
        dual = (wildcard, port) in self.listeners or ("::", port) in self.listeners
        return dual and is_local(address)


def is_local(address: str) -> bool:
    """True when this machine has the address now. A socket is bound to it, nothing is sent; does not
    block."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # Some machines may bind to any address (ip_nonlocal_bind): then a successful bind says nothing.
    return _binds(family, address) and not _binds(family, _NOT_OURS[family])


def _binds(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:  # not ours, or no such address family here
        return False
    return True


def _listener(text: str) -> tuple[str, int] | None:
    """ "127.0.0.1:25", "[::1]:25" -> (address, port); None for a name or another kind of listener."""
    host, _, port = text.rpartition(":")
    try:
        return str(ip_address(host.strip("[]"))), int(port)
    except ValueError:
        return None
