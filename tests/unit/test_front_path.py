"""The path parser (RFC 5321 4.1.2): what is taken, what is refused, and that what is taken keeps its
limits."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.front.path import PathError, is_domain, parse_path

ORIGIN = "corp.example"
TAKEN = [
    ("<a@b.example>", "a@b.example", ""),
    ("<a@b.example> SIZE=1 BODY=7BIT", "a@b.example", "SIZE=1 BODY=7BIT"),
    ("<a@b.example>  SIZE=1", "a@b.example", "SIZE=1"),
    ("  <a@b.example>", "a@b.example", ""),
    ("<>", "", ""),
    ("<> RET=FULL", "", "RET=FULL"),
    ("a@b.example", "a@b.example", ""),
    ("a@b.example SIZE=1", "a@b.example", "SIZE=1"),
    ("<root>", "root@corp.example", ""),
    ("root", "root@corp.example", ""),
    ("<PostMaster>", "PostMaster@corp.example", ""),
    ("<@x.example:a@b.example>", "a@b.example", ""),
    ("<@x.example,@[192.0.2.1]:a@b.example>", "a@b.example", ""),
    ("<@x.example:root>", "root@corp.example", ""),
    ('<"a b"@c.example>', '"a b"@c.example', ""),
    ('<"a>b@c"@d.example> SIZE=1', '"a>b@c"@d.example', "SIZE=1"),
    ('<"a\\"b\\\\"@d.example>', '"a\\"b\\\\"@d.example', ""),
    ('"a b"@c.example X=1', '"a b"@c.example', "X=1"),
    ('<""@c.example>', '""@c.example', ""),
    ("<a@[192.0.2.1]>", "a@[192.0.2.1]", ""),
    ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", ""),
    ("<a@[ipv6:::1]>", "a@[ipv6:::1]", ""),
    ("<a%b@c.example>", "a%b@c.example", ""),
    ("<h!u@c.example>", "h!u@c.example", ""),
    ("<.a..b.@c.example>", ".a..b.@c.example", ""),
    ("<a@x_y.example>", "a@x_y.example", ""),
    ("<a@B.Example>", "a@B.Example", ""),
    ("<a@localhost>", "a@localhost", ""),
    ("<a@xn--bcher-kva.example>", "a@xn--bcher-kva.example", ""),
    ("<jörg@bücher.example>", "jörg@bücher.example", ""),
    ('<"ö ö"@c.example>', '"ö ö"@c.example', ""),
    (f"<{'l' * 64}@b.example>", f"{'l' * 64}@b.example", ""),
    (f"<a@{'d' * 63}.example>", f"a@{'d' * 63}.example", ""),
    (f"<l@{'.'.join(['d' * 63] * 3)}.{'d' * 60}>", f"l@{'.'.join(['d' * 63] * 3)}.{'d' * 60}", ""),
]
REFUSED = [
    "",
    " ",
    "<",
    ">",
    "<a",
    "<a@b.example",
    "a@b.example>",
    "<a@b.example>x",
    "<a@b.example>SIZE=1",
    "<<a@b.example>>",
    "<a b@c.example>",
    "<a@b c.example>",
    "<a@b.example >",
    "< a@b.example>",
    '<"a>',
    '<"a@b.example>',
    '<"a"b@c.example>',
    '<a"b"@c.example>',
    '<"a\\"@b.example>',
    "<a@>",
    "<@>",
    "<@b.example>",
    "<@b.example:>",
    "<@b.example:@c.example>",
    "<@b.example,c.example:a@d.example>",
    "<@b.example,:a@d.example>",
    "<@-b:a@d.example>",
    "<a@b@c.example>",
    "<a@b..example>",
    "<a@.example>",
    "<a@b.example.>",
    "<a@-b.example>",
    "<a@b-.example>",
    "<a@b!c>",
    "<a@[192.0.2.300]>",
    "<a@[192.0.2]>",
    "<a@192.0.2.1]>",
    "<a@[192.0.2.1>",
    "<a@[]>",
    "<a@[2001:db8::1]>",
    "<a@[IPv6:192.0.2.1]>",
    "<a@[IPv6:fe80::1%eth0]>",
    "<a@[tag:x]>",
    "<a(comment)@b.example>",
    "<a,b@c.example>",
    "<a:b@c.example>",
    "<a;b@c.example>",
    "<a\\b@c.example>",
    "<a@b\u3002example>",
    "<a@☃.example>",
    f"<{'l' * 65}@b.example>",
    f"<{'ö' * 33}@b.example>",
    f"<a@{'d' * 64}.example>",
    f"<a@{'ö' * 60}.example>",
    f"<ll@{'.'.join(['d' * 63] * 3)}.{'d' * 60}>",
    f"<{'l' * 64}@{'.'.join(['d' * 49] * 4)}>",
    f"<{'l' * 64}@{'.'.join(['ö' * 30] * 4)}>",
    "<a\rb@c.example>",
    "<a\nb@c.example>",
    "<a\0b@c.example>",
    "<a\tb@c.example>",
    '<"a\rb"@c.example>',
    "<a@b.example>\r\nRCPT TO:<x@y.example>",
    "a@b.example\nX",
]


@pytest.mark.parametrize(("text", "address", "rest"), TAKEN)
def test_taken(text: str, address: str, rest: str) -> None:
    """The address as given, and the parameters."""
    assert parse_path(text, ORIGIN) == (address, rest)


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    """What is not a path is refused with a reason."""
    with pytest.raises(PathError, match=r"^[a-z].*"):
        parse_path(text, ORIGIN)


@pytest.mark.parametrize(("domain", "expected"), [("a." * 126 + "abc", True), ("a." * 127 + "ab", False)])
def test_domain_limit(domain: str, expected: bool) -> None:
    """255 octets, not 256."""
    assert is_domain(domain) is expected


pieces = st.text(st.sampled_from('ab.@<>" \\:,[]%!ö-_1\t\r\n\0☃\u0301'), max_size=40)


@given(st.one_of(pieces, pieces.map(lambda text: f"<{text}>"), st.text(max_size=300)))
@example('<"\\')
def test_never_crashes(text: str) -> None:
    """Any text: an address that keeps the limits and is taken again as it is, or PathError."""
    try:
        address, rest = parse_path(text, ORIGIN)
    except PathError:
        return
    assert (address + rest).isprintable()
    assert len(address.encode()) <= 254
    if address:
        local, _, domain = address.rpartition("@")
        assert 0 < len(local.encode()) <= 64 and 0 < len(domain.encode()) <= 255
    assert parse_path(f"<{address}>", "other.example") == (address, "")


local_part = st.text(st.sampled_from("abcXYZ019!#$%&'*+/=?^_`{|}~.-"), min_size=1, max_size=64)
label = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?", fullmatch=True)


@given(local_part, st.lists(label, min_size=1, max_size=5))
def test_round_trip(local: str, labels: list[str]) -> None:
    """Every dot-string at every host name is taken byte for byte."""
    address = f"{local}@{'.'.join(labels)}"
    assert parse_path(f"<{address}> X=1", ORIGIN) == (address, "X=1")
