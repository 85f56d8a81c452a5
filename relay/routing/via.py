"""The text of a route's `via:` as values.

`parse_via` reads one next hop ("smtp1.example.net:587", "smtps://smtp2.example.net", "[2001:db8::1]:25"),
`parse_route_via` the whole key: "mx", "capture:/dir", one hop or a list of hops. Both raise ValueError whose
text says what to write instead; the configuration check uses them, so an error found here carries a line and
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal

from relay.routing.domain import to_ascii

Kind = Literal["mx", "via", "capture"]
SMTP_PORT = 25
SMTPS_PORT = 465  # RFC 8314 section 3.3: implicit TLS


@dataclass(frozen=True, slots=True)
class Via:
    """One configured next hop. host: a name (A-label form, lower case) or an IP address without brackets."""

    host: str
    port: int = SMTP_PORT
    implicit_tls: bool = False


@dataclass(frozen=True, slots=True)
class RouteVia:
    """The whole key: kind "via" has hops, kind "capture" has a directory, kind "mx" has neither."""

    kind: Kind
    hops: tuple[Via, ...] = ()
    capture: Path | None = None


def parse_via(text: str) -> Via:
    """ "[smtp://|smtps://]host[:port]" -> Via; the port is 25, or 465 after smtps://. ValueError with
    advice."""
    scheme, separator, rest = text.strip().rpartition("://")
    if scheme.lower() not in ("", "smtp", "smtps") or (separator and not scheme):
        raise ValueError(f"unknown scheme {scheme!r}: write smtp://host:port or smtps://host:port")
    implicit = scheme.lower() == "smtps"
    if "@" in rest:
        raise ValueError("a next hop holds no user name or password: use the keys username and password_file")
    host, port = split_port(rest)
    return Via(_host(host), parse_port(port) if port is not None else _default(implicit), implicit)


def parse_route_via(value: str | Sequence[str]) -> RouteVia:
    """The value of `via:` -> RouteVia. ValueError with advice."""
    if isinstance(value, str):
        if value.strip().lower() == "mx":
            return RouteVia("mx")
        if value.startswith("capture:"):
            return RouteVia("capture", capture=_directory(value.removeprefix("capture:")))
        return RouteVia("via", (parse_via(value),))
    if not value:
        raise ValueError("an empty list: write at least one host:port, or mx")
    for text in value:
        if text.strip().lower() == "mx" or text.startswith("capture:"):
            raise ValueError(f"{text!r} stands alone: write via: {text} without a list")
    return RouteVia("via", tuple(parse_via(text) for text in value))


def _default(implicit: bool) -> int:
    return SMTPS_PORT if implicit else SMTP_PORT


def split_port(text: str) -> tuple[str, str | None]:
    """host and port text (None without one) of "host:port" or "[v6]:port". ValueError with advice."""
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError(f"{text!r}: write [2001:db8::1]:25")
        if not isinstance(_literal(host), IPv6Address):
            raise ValueError(f"{host!r} in brackets is not an IPv6 address: write [2001:db8::1]:25")
        return host, tail[1:] if tail else None
    if text.count(":") > 1:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [2001:db8::1]:25")
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _host(text: str) -> str:
    if not text:
        raise ValueError("no host: write host:port")
    literal = _literal(text)
    if literal is not None:
        if isinstance(literal, IPv6Address) and literal.scope_id:
            raise ValueError(f"{text!r}: an address with a zone index is not supported")
        return str(literal)
    host = to_ascii(text)
    if host.rpartition(".")[2].isdigit():
        raise ValueError(f"{text!r} is neither an IP address nor a host name")
    return host


def parse_port(text: str) -> int:
    """ "1" to "65535". ValueError with advice."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise ValueError(f"port {text!r}: write a number from 1 to 65535")
    return int(text)


def _directory(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError("write an absolute directory after capture:, as in capture:/var/mail/sandbox")
    return Path(text)
