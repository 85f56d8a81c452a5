"""The smarthosts of the tests themselves: they take mail from who logs in over TLS, and from nobody else."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest
from fakes.certificates import authority
from fakes.exim import Exim
from fakes.smarthost import Smarthost

USERS = {"app": "s3cret"}
MESSAGE = b"Subject: x\r\n\r\n.body\r\n"
Host = Smarthost | Exim


@pytest.fixture(params=[Smarthost, Exim], scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with request.param(["example.com"], authority().issue("127.0.0.1"), USERS) as host:
        yield host


def starttls(host: Host) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", host.port, timeout=20)
    client.starttls(context=authority().client())
    return client


def wrapped(host: Host) -> smtplib.SMTP:
    return smtplib.SMTP_SSL("127.0.0.1", host.tls_port, timeout=20, context=authority().client())


def send(client: smtplib.SMTP, recipient: str = "b@example.com") -> None:
    client.sendmail("a@example.org", [recipient], MESSAGE)


def test_takes_mail_from_who_logs_in(host: Host) -> None:
    """On both ports; what it keeps says so."""
    before = len(host.mail())
    for opened in (starttls(host), wrapped(host)):
        with opened as client:
            client.login("app", "s3cret")
            send(client)
    host.wait(before + 2)
    for content in host.mail():
        assert b"\nSubject: x\n" in content
        assert content.endswith(b"\n\n.body\n")
        assert b"with esmtpsa" in content.lower()


def test_takes_nothing_else(host: Host) -> None:
    """In clear, without a login, with a wrong password, for other domains."""
    with smtplib.SMTP("127.0.0.1", host.port, timeout=20) as client:
        client.ehlo()
        assert "auth" not in client.esmtp_features
        with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused)):
            send(client)
    with starttls(host) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        send(client)
    with wrapped(host) as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.login("app", "wrong")
    assert refused.value.smtp_code == 535


def test_a_password_changes_at_once(host: Host) -> None:
    """A Postfix that runs takes the new one and refuses the old one."""
    if not isinstance(host, Smarthost):
        return  # the users of an Exim are fixed
    host.set_password("other", "first")
    host.set_password("other", "second")
    with wrapped(host) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("other", "first")
        client.login("other", "second")
        send(client)
    host.wait(1)
    assert "other@postfix.example" in host.logins
