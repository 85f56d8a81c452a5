"""Address literals of mail domains (RFC 5321 section 4.1.3). Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def parse_literal(domain: str) -> str | None:
    """ "[192.0.2.1]" or "[IPv6:2001:db8::1]" -> canonical IP text; None when it is neither."""
    if not (domain.startswith("[") and domain.endswith("]")):
        return None
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            six = IPv6Address(inner[5:])
            return None if six.scope_id else str(six)
        return str(IPv4Address(inner))
    except ValueError:
        return None


def as_address(text: str) -> str | None:
    """Canonical IP text when `text` is an address, else None."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None
