"""What stands for a place in the configuration: endpoints, networks, names, mailboxes, next hops, patterns.

Every function takes the text as written and returns a value, or raises ValueError whose message ends by
saying what to write instead. Nothing here asks DNS. The grammar of `via`, `to` and `from` is routing's; this
module adds the advice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Network, ip_address, ip_network
from typing import TypeVar
from urllib.parse import urlsplit

from relay.routing.domain import to_ascii
from relay.routing.pattern import parse_pattern, parse_rewrite
from relay.routing.via import parse_route_via

T = TypeVar("T")

ADDRESS_LIMIT, LOCAL_LIMIT = 254, 64  # octets (RFC 5321 4.5.3.1)
REWRITE_EXAMPLE = "root@host.example, @host.example or root@*.local"

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_ATOM = re.compile(r"[^\s\x00-\x20()<>\[\]:;@\\,\"\x7f]+")


def is_ip(text: str) -> bool:
    """True for a literal IPv4 or IPv6 address without brackets and without a zone index."""
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False


def parse_endpoint(text: str, default_port: int | None = None, lowest: int = 0) -> tuple[str, int]:
    """ "host:port" or "[v6]:port" -> (host without brackets, port). No port: default_port, or ValueError."""
    host, port = _split(text, default_port is not None)
    if host in ("", "*"):
        tail = port or "PORT"
        raise ValueError(f"{text!r} names no address; write 0.0.0.0:{tail} or [::]:{tail} for all of them")
    _check_host(host, text)
    if port:
        return host, _port(port, text, lowest)
    if default_port is None:
        raise ValueError(f"{text!r} has no port; write {bracketed(host)}:PORT, such as {bracketed(host)}:25")
    return host, default_port


def _split(text: str, bare_v6: bool) -> tuple[str, str]:
    """host and port text, "" for what is absent."""
    if text.startswith("["):
        inside, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or ":" not in inside or not is_ip(inside):
            raise ValueError(f"{text!r} is not an IPv6 address and a port; write it as [2001:db8::1]:25")
        return inside, rest[1:]
    if text.count(":") < 2:
        host, _, port = text.partition(":")
        return host, port
    if bare_v6:
        return text, ""
    raise ValueError(f"{text!r} does not show where the port begins; write it as [2001:db8::1]:25")


def _port(port: str, text: str, lowest: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or not lowest <= int(port) <= 65535:
        raise ValueError(f"{text!r} has no usable port; write a number from 1 to 65535 after the colon")
    return int(port)


def bracketed(host: str) -> str:
    """A host as it stands before ":port"."""
    return f"[{host}]" if ":" in host else host


def _check_host(host: str, text: str) -> None:
    if is_ip(host):
        return
    try:
        name = to_ascii(host)
    except ValueError:
        name = ""
    if re.fullmatch(r"[0-9.]+", host) or not name:
        raise ValueError(f"{text!r} holds neither an IP address nor a host name; write it as 127.0.0.1:2525")


def check_via(text: str) -> str | tuple[str, ...]:
    """`via` written as one text: "mx" and "capture:/dir" as they are, one next hop as a tuple of one."""
    _refuse_login(text)
    via = _advised(text, lambda: parse_route_via(text), "smtp.example.net:587")
    return text if via.kind == "capture" else "mx" if via.kind == "mx" else (text,)


def check_via_item(text: str) -> str:
    """One item of a `via` list, as written."""
    _refuse_login(text)
    _advised(text, lambda: parse_route_via([text]), "smtp.example.net:587")
    return text


def _refuse_login(text: str) -> None:
    if "@" in text and not text.startswith("capture:"):
        host = text.rpartition("@")[2]
        raise ValueError(
            f"{host!r}: a next hop holds no user name or password; write {host}, username: and password_file:"
        )


def check_recipient_pattern(text: str) -> str:
    """An item of routes.to, as written."""
    _advised(text, lambda: parse_pattern(text), "example.org or *.example.org")
    return text


def check_sender_pattern(text: str) -> str:
    """An item of routes.from, as written."""
    _advised(text, lambda: parse_pattern(text, sender=True), "@example.org, ci@example.org or <>")
    return text


def _advised(text: str, parse: Callable[[], T], example: str) -> T:
    """What parse() returns; its ValueError always ends with what to write."""
    try:
        return parse()
    except ValueError as error:
        if "write" in str(error):
            raise
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{reason if repr(text) in reason else f'{text!r}: {reason}'}; write it as {example}"
        ) from None


def check_network(text: str) -> str:
    """A network or a single address, as written. Host bits and IPv4-mapped networks are refused."""
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(_network_advice(text)) from None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        inside = network.network_address.ipv4_mapped
        if inside is not None:
            raise ValueError(f"{text!r} is IPv4 in IPv6 dress; write {inside}/{network.prefixlen - 96}")
    return text


def _network_advice(text: str) -> str:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is not a network; write it as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
    address = text.partition("/")[0]
    return f"{text!r} has bits set behind its mask; write {network}, or {address} for that one address"


def check_ip(text: str) -> str:
    """A literal address without a port or brackets."""
    if not is_ip(text):
        raise ValueError(f"{text!r} is not an IP address; write it as 192.0.2.7 or 2001:db8::7")
    return text


def check_endpoint(text: str) -> str:
    """ "host:port", as written. Port 0 lets the system choose."""
    parse_endpoint(text)
    return text


def parse_dns_server(text: str) -> tuple[str, int]:
    """A literal address with an optional port (default 53)."""
    host, port = parse_endpoint(text, 53, lowest=1)
    if not is_ip(host):
        raise ValueError(
            f"{text!r} is a name; a DNS server is given by its address: write it as 192.0.2.53:53"
        )
    return host, port


def check_dns_server(text: str) -> str:
    """An item of dns.servers, as written."""
    parse_dns_server(text)
    return text


def check_hostname(text: str) -> str:
    """The relay's own name: a full domain name in ASCII without the final dot; "" is allowed."""
    if text.endswith("."):
        raise ValueError(f"{text!r} ends with a dot; write {text.rstrip('.')}")
    labels = text.split(".")
    if text and (is_ip(text) or len(labels) < 2):
        raise ValueError(
            f"{text!r} is not a full host name; write one with its domain, such as relay.example.com"
        )
    if text and (len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels)):
        raise ValueError(f"{text!r} is not a host name; write letters, digits and hyphens between dots")
    return text


def check_domain(text: str) -> str:
    """A domain or "". One in UTF-8 becomes A-labels: an address completed by it must not need SMTPUTF8."""
    if "@" in text:
        raise ValueError(f"{text!r} is not a domain; write {text.rpartition('@')[2] or 'example.com'}")
    if text.endswith("."):
        raise ValueError(f"{text!r} ends with a dot; write {text.rstrip('.')}")
    if not text:
        return text
    name = _advised(text, lambda: to_ascii(text), "example.com")
    return text if text.isascii() else name


def check_mailbox(text: str) -> str:
    """An address with a domain, without angle brackets or a display name; or "". A domain in UTF-8 becomes
    A-labels."""
    inside = re.search(r"<([^<>]+@[^<>]+)>", text)
    if inside:
        raise ValueError(f"{text!r} is more than an address; write {inside[1]}")
    local, _, domain = text.rpartition("@")
    if text and (len(local.encode()) > LOCAL_LIMIT or not _ATOM.fullmatch(local)):
        raise ValueError(f"{text!r} is not an address; write it as ops@example.com")
    return f"{local}@{check_domain(domain)}" if text else text


def check_token_url(text: str) -> str:
    """Where OAuth tokens come from: https, or http on this machine."""
    url = urlsplit(text)
    host = url.hostname or ""
    local = host == "localhost" or (is_ip(host) and ip_address(host).is_loopback)
    if not host or url.scheme not in ("https", "http") or (url.scheme == "http" and not local):
        raise ValueError(f"{text!r} would not keep a secret; write it as https://login.example.com/token")
    return text


def check_rewrite_from(text: str) -> str:
    """rewrite.from: an address, "@domain", or either with "*" in it; as written."""
    if any(character.isspace() or character in '<>,;"' for character in text):
        raise ValueError(f"{text!r} fits no address; write it as {REWRITE_EXAMPLE}")
    _advised(text, lambda: parse_rewrite(text), REWRITE_EXAMPLE)
    return text


def check_rewrite_to(text: str) -> str:
    """rewrite.to: an address, or "@domain" to keep what stands before the "@". A domain in UTF-8 becomes
    A-labels; the whole must be ASCII and short enough for any local part: no client asked for SMTPUTF8."""
    local, at, domain = text.rpartition("@")
    if not at or not domain:
        raise ValueError(f"{text!r} is not an address; write it as ops@example.com or @example.com")
    if not local.isascii():
        raise ValueError(f"{text!r} needs SMTPUTF8 of every next hop; write an address in ASCII")
    written = check_mailbox(text) if local else f"@{check_domain(domain)}"
    if len(written) > ADDRESS_LIMIT - (0 if local else LOCAL_LIMIT):
        raise ValueError(f"{text!r} is too long for an address; write a shorter one")
    return written
