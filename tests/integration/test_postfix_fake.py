"""The Postfix of the tests itself: it takes mail into Maildirs, sends mail on, and is gone afterwards."""

from __future__ import annotations

import smtplib

import pytest
from fakes.postfix import Postfix
from fakes.sink import RecordingSink


def test_delivers_and_sends_on_and_ends() -> None:
    """Mail for its domain lies in a Maildir, the rest reaches the relayhost; nothing is left behind."""
    with RecordingSink() as sink, Postfix(["example.com"], ("127.0.0.1", sink.port)) as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.sendmail(
                "a@example.org", ["b@example.com", "c@example.net"], b"Subject: x\r\n\r\n.body\r\n"
            )
        postfix.wait(1)
        (stored,) = postfix.mail()
        (passed,) = sink.wait(1)
        master = postfix.master
    assert stored.endswith(b"\n\n.body\n")
    assert (passed.recipients, passed.content[-9:]) == (["c@example.net"], b"\r\n.body\r\n")
    assert master
    assert postfix.master is None
    assert not postfix.directory.exists()


def test_refuses_what_is_not_its_own() -> None:
    """Without a relayhost only its domains are taken in: a test cannot lose mail in it."""
    with Postfix(["example.com"]) as postfix, smtplib.SMTP("127.0.0.1", postfix.port) as client:
        client.sendmail("a@example.org", ["b@example.com"], b"x")
        postfix.wait(1)
        with pytest.raises(AssertionError, match="not holds 2 in time"):
            postfix.wait(2, 0.05)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["b@example.net"], b"x")
