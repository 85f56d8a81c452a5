"""The text of `via:`."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.routing.via import RouteVia, Via, parse_route_via, parse_via


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smtp.example.net", Via("smtp.example.net", 25)),
        ("smtp.example.net:587", Via("smtp.example.net", 587)),
        ("SMTP.Example.NET.:587", Via("smtp.example.net", 587)),
        (" smtp.example.net ", Via("smtp.example.net", 25)),
        ("smtp://smtp.example.net", Via("smtp.example.net", 25)),
        ("smtp://smtp.example.net:2525", Via("smtp.example.net", 2525)),
        ("smtps://smtp.example.net", Via("smtp.example.net", 465, True)),
        ("SMTPS://smtp.example.net:10465", Via("smtp.example.net", 10465, True)),
        ("192.0.2.1:25", Via("192.0.2.1", 25)),
        ("[2001:DB8:0::1]:587", Via("2001:db8::1", 587)),
        ("[2001:db8::1]", Via("2001:db8::1", 25)),
        ("smtps://[2001:db8::1]", Via("2001:db8::1", 465, True)),
        ("localhost:1025", Via("localhost", 1025)),
        ("mail_hog:1025", Via("mail_hog", 1025)),
        ("bücher.example:25", Via("xn--bcher-kva.example", 25)),
    ],
)
def test_next_hop(text: str, expected: Via) -> None:
    """Every accepted form, with the port that is meant when none is written."""
    assert expected == parse_via(text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "no host"),
        (":25", "no host"),
        ("smtp.example.net:", "write a number"),
        ("smtp.example.net:0", "write a number"),
        ("smtp.example.net:65536", "write a number"),
        ("smtp.example.net:smtp", "write a number"),
        ("smtp.example.net:٢٥", "write a number"),
        ("http://smtp.example.net", "smtps://host:port"),
        ("://smtp.example.net", "smtps://host:port"),
        ("2001:db8::1", "[2001:db8::1]:25"),
        ("[2001:db8::1", "[2001:db8::1]:25"),
        ("[2001:db8::1]25", "[2001:db8::1]:25"),
        ("[192.0.2.1]:25", "not an IPv6 address"),
        ("[fe80::1%eth0]:25", "zone index"),
        ("user:secret@smtp.example.net", "username and password_file"),
        ("256.0.0.1:25", "neither an IP address"),
        ("smtp..example.net", "not a host"),
        ("-.example", "not a host"),
        ("smtp example.net", "not a host"),
        ("a" * 64 + ".example", "not a host"),
        ("smtp.example.net/25", "not a host"),
    ],
)
def test_wrong_next_hop(text: str, advice: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(ValueError) as caught:
        parse_via(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mx", RouteVia("mx")),
        ("MX", RouteVia("mx")),
        ("capture:/var/mail/sandbox", RouteVia("capture", capture=Path("/var/mail/sandbox"))),
        ("smtp.example.net:587", RouteVia("via", (Via("smtp.example.net", 587),))),
        (
            ("a.example", "smtps://b.example"),
            RouteVia("via", (Via("a.example", 25), Via("b.example", 465, True))),
        ),
    ],
)
def test_whole_key(value: str | tuple[str, ...], expected: RouteVia) -> None:
    assert expected == parse_route_via(value)


@pytest.mark.parametrize("value", [(), ("mx",), ("a.example", "capture:/x"), "capture:x", "capture:"])
def test_wrong_key(value: str | tuple[str, ...]) -> None:
    """An empty list, words that stand alone in a list, a relative directory."""
    with pytest.raises(ValueError, match="write"):
        parse_route_via(value)
