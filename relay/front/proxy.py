"""The PROXY protocol, versions 1 and 2, as a load balancer begins a connection with it: the client's address.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt (sections 2.1 and 2.2). Pure and strict: octets
in, a Header out, or None while some are missing. Nothing is guessed, no name is looked up, TLVs are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

LINE_LIMIT = 107  # octets of a header of version 1, CRLF included
BODY_LIMIT = 4096  # octets behind the 16 that begin version 2: addresses, and what a balancer may add
_LINE = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD = 16  # octets: signature, version and command, family, length
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES = {0x11: 12, 0x21: 36}  # TCP over IPv4 and IPv6 -> octets of two addresses and two ports
_UNUSABLE = frozenset((0x00, 0x31))  # unspecified, a Unix socket: nothing about a client we could use


class ProxyError(Exception):
    """Not a header. The text says why, in few words."""


@dataclass(frozen=True, slots=True)
class Header:
    """address: the client's; "" when the proxy speaks for itself or does not know it. size: octets."""

    address: str
    size: int


def parse_header(data: bytes) -> Header | None:
    """The header `data` begins with. None: more is needed. ProxyError: it begins with something else."""
    if data.startswith(_SIGNATURE):
        return _binary(data)
    if data.startswith(_LINE):
        return _text(data)
    if _SIGNATURE.startswith(data) or _LINE.startswith(data):
        return None
    raise ProxyError("missing")


def _text(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LINE_LIMIT)
    if end < 0:
        if len(data) >= LINE_LIMIT:
            raise ProxyError("line too long")
        return None
    words = data[len(_LINE) : end].split(b" ")
    if words[0] == b"UNKNOWN":  # the rest of the line is to be ignored
        return Header("", end + 2)
    if words[0] not in (b"TCP4", b"TCP6") or len(words) != 5:
        raise ProxyError("malformed line")
    _, source, destination, *ports = words
    if not all(_is_port(port) for port in ports):
        raise ProxyError("malformed port")
    address = _address(words[0], source)
    _address(words[0], destination)
    return Header(address, end + 2)


def _is_port(text: bytes) -> bool:
    """0 to 65535, without leading zeros."""
    return text.isdigit() and len(text) <= 5 and int(text) <= 65535 and (text[:1] != b"0" or text == b"0")


def _address(family: bytes, text: bytes) -> str:
    try:
        word = text.decode("ascii")
        if family == b"TCP4":
            return str(IPv4Address(word))
        if "%" in word:
            raise ProxyError("malformed address")
        return _plain(IPv6Address(word))
    except (AddressValueError, UnicodeDecodeError):
        raise ProxyError("malformed address") from None


def _binary(data: bytes) -> Header | None:
    if len(data) < _HEAD:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:_HEAD], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyError("unknown version or command")
    if length > BODY_LIMIT:
        raise ProxyError("too long")
    size = _HEAD + length
    if len(data) < size:
        return None
    if command == _LOCAL or family in _UNUSABLE:
        return Header("", size)
    needed = _ADDRESSES.get(family)
    if needed is None:
        raise ProxyError("not a TCP connection")
    if length < needed:
        raise ProxyError("too short")
    if family == 0x11:
        return Header(str(IPv4Address(data[16:20])), size)
    return Header(_plain(IPv6Address(data[16:32])), size)


def _plain(address: IPv6Address) -> str:
    """::ffff:192.0.2.1 counts as IPv4, as everywhere (policy.py)."""
    return str(address.ipv4_mapped or address)
