"""The tap of the tests sees every byte, and finds a secret however it is written."""

from __future__ import annotations

import base64
import smtplib

import pytest
from fakes.sink import RecordingSink
from fakes.tap import Tap, leaks

SECRET = "pass:wörd-9"


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"\0user\0", b"user=x\1auth=Bearer "])
@pytest.mark.parametrize("behind", [b"", b"z", b"zz", b"\1\1"])
def test_finds_a_secret_in_base64(before: bytes, behind: bytes) -> None:
    """Wherever it stands in what was encoded."""
    line = b"AUTH X " + base64.b64encode(before + SECRET.encode() + behind) + b"\r\n"
    assert leaks(line, SECRET)


def test_finds_it_as_it_stands_and_nothing_else() -> None:
    assert leaks(b"PASS " + SECRET.encode(), SECRET) == ["plain"]
    assert leaks(b"AUTH PLAIN " + base64.b64encode(b"\0app\0another"), SECRET) == []
    assert leaks(b"", SECRET) == []


def test_passes_on_and_keeps_both_directions() -> None:
    """What is sent by way of the tap arrives, and stands in it."""
    with RecordingSink() as sink, Tap(sink.port) as tap:
        for _ in range(2):
            with smtplib.SMTP("127.0.0.1", tap.port, timeout=20) as client:
                client.sendmail("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\nthe body\r\n")
        assert len(sink.wait(2)) == 2
        assert tap.sessions == 2
        assert tap.sent.count(b"the body") == 2
        assert tap.received.count(b"220 ") == 2


def test_a_server_that_is_down_ends_the_connection() -> None:
    sink = RecordingSink()
    with sink, Tap(sink.port) as tap:
        sink.close()
        with pytest.raises((smtplib.SMTPException, OSError)):
            smtplib.SMTP("127.0.0.1", tap.port, timeout=20)
