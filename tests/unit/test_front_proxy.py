"""The PROXY protocol's parser: what is a header, octet for octet, and what is none."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.front.proxy import BODY_LIMIT, LINE_LIMIT, Header, ProxyError, parse_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = ipaddress.IPv4Address("192.0.2.1").packed + ipaddress.IPv4Address("192.0.2.2").packed
V6 = ipaddress.IPv6Address("2001:db8::1").packed + ipaddress.IPv6Address("2001:db8::2").packed
MAPPED = ipaddress.IPv6Address("::ffff:192.0.2.1").packed * 2
PORTS = struct.pack("!HH", 40000, 25)
TLV = b"\x04\x00\x03abc"


def version_2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", size) + body


GOOD = {
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n": "192.0.2.1",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 0\r\n": "255.255.255.255",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 25\r\n": "2001:db8::1",
    b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 1 25\r\n": "2001:db8::1",
    b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 40000 25\r\n": "192.0.2.1",
    b"PROXY TCP6" + b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" * 2 + b" 65535 65535\r\n": (
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    ),
    b"PROXY UNKNOWN\r\n": "",
    b"PROXY UNKNOWN ffff::1 whatever 65535 x\r\n": "",
    version_2(0x21, 0x11, V4 + PORTS): "192.0.2.1",
    version_2(0x21, 0x11, V4 + PORTS + TLV): "192.0.2.1",
    version_2(0x21, 0x21, V6 + PORTS): "2001:db8::1",
    version_2(0x21, 0x21, V6 + PORTS + TLV * 100): "2001:db8::1",
    version_2(0x21, 0x21, MAPPED + PORTS): "192.0.2.1",
    version_2(0x20, 0x00, b""): "",
    version_2(0x20, 0x11, V4 + PORTS): "",  # LOCAL: the proxy's own check
    version_2(0x20, 0xFF, b"x" * BODY_LIMIT): "",
    version_2(0x21, 0x00, b""): "",  # the address is not known
    version_2(0x21, 0x31, bytes(216)): "",
}

BAD = [
    b"EHLO client.example\r\n",
    b"\x16\x03\x01\x02\x00",
    b"proxy TCP4 192.0.2.1 192.0.2.2 40000 25\r\n",
    b"PROXY\r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 40000 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25 \r\n",
    b"PROXY TCP4 192.0.2.1  40000 25\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 40000 25\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.2 40000 25\r\n",
    b"PROXY TCP4 192.0.2.1 2001:db8::2 40000 25\r\n",
    b"PROXY TCP4 client.example 192.0.2.2 40000 25\r\n",
    b"PROXY TCP4 192.0.2.1\0 192.0.2.2 40000 25\r\n",
    b"PROXY TCP4 3221225985 192.0.2.2 40000 25\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 40000 25\r\n",
    b"PROXY TCP6 fe80::1%eth0 2001:db8::2 40000 25\r\n",
    b"PROXY TCP6 2001:db8:::1 2001:db8::2 40000 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 040 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 25\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 \xb2 25\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 40000 25\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\n" + b"x" * LINE_LIMIT,
    b"PROXY UNKNOWN " + b"x" * (LINE_LIMIT - 15) + b"\r\n",
    version_2(0x11, 0x11, V4 + PORTS),
    version_2(0x22, 0x11, V4 + PORTS),
    version_2(0x21, 0x12, V4 + PORTS),  # UDP
    version_2(0x21, 0x22, V6 + PORTS),
    version_2(0x21, 0x10, V4 + PORTS),
    version_2(0x21, 0x41, V4 + PORTS),
    version_2(0x21, 0x11, V4),
    version_2(0x21, 0x21, V4 + PORTS),
    version_2(0x20, 0x00, b"", BODY_LIMIT + 1),
    version_2(0x21, 0x11, b"", 65535),
]


@pytest.mark.parametrize("data", GOOD, ids=repr)
def test_headers(data: bytes) -> None:
    """The address, and the size whatever follows; None for each beginning of it."""
    for rest in (b"", b"EHLO c\r\n", data):
        assert parse_header(data + rest) == Header(GOOD[data], len(data))
    for length in range(len(data)):
        assert parse_header(data[:length]) is None


@pytest.mark.parametrize("data", BAD, ids=repr)
def test_no_headers(data: bytes) -> None:
    """Refused as a whole, and by octet: nothing is asked for that could never make it good."""
    with pytest.raises(ProxyError):
        parse_header(data)
    with pytest.raises(ProxyError):
        for length in range(len(data) + 1):
            assert parse_header(data[:length]) is None


def test_the_longest_line_is_bounded() -> None:
    """107 octets are the most a header of version 1 can have (section 2.1)."""
    line = b"PROXY UNKNOWN ".ljust(LINE_LIMIT - 2, b"x")
    assert parse_header(line + b"\r\n") == Header("", LINE_LIMIT)
    assert parse_header(line) is None
    with pytest.raises(ProxyError, match="line too long"):
        parse_header(line + b"xx")


@given(
    st.binary(max_size=300) | st.tuples(st.sampled_from((SIGNATURE, b"PROXY ")), st.binary()).map(b"".join)
)
def test_any_octets(data: bytes) -> None:
    """A header, None or ProxyError; what it says does not change with what follows."""
    try:
        header = parse_header(data)
    except ProxyError:
        return
    if header is None:
        assert len(data) < 16 + BODY_LIMIT
        return
    assert 0 < header.size <= len(data)
    assert parse_header(data + b"more") == header == parse_header(data[: header.size])
    if header.address:
        ipaddress.ip_address(header.address)


@given(
    st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=99)
)
def test_what_proxies_write(
    client: ipaddress.IPv4Address | ipaddress.IPv6Address,
    server: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    other: int,
    rest: bytes,
) -> None:
    """Any client comes out as it went in, by both versions."""
    if client.version != server.version:
        return
    mapped = client.ipv4_mapped if isinstance(client, ipaddress.IPv6Address) else None
    expected = str(mapped or client)
    line = f"PROXY TCP{client.version} {client} {server} {port} {other}\r\n".encode()
    assert parse_header(line + rest) == Header(expected, len(line))
    family = 0x11 if client.version == 4 else 0x21
    packed = version_2(0x21, family, client.packed + server.packed + struct.pack("!HH", port, other))
    assert parse_header(packed + rest) == Header(expected, len(packed))
