"""The certificates that tests of TLS show each other are what their names say."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from fakes.certificates import Authority, Pair, authority, self_signed

NAME = "mx.example.net"


def handshake(pair: Pair, client: ssl.SSLContext, name: str = NAME) -> None:
    """In memory; raises what the client finds wrong."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        pair.server().wrap_bio(to_server, to_client, server_side=True),
    )
    open_ends = list(ends)
    for _ in range(10):
        for end in (*open_ends,):
            try:
                end.do_handshake()
                open_ends.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not open_ends:
            return
    raise AssertionError("no end of the handshake")


def test_a_good_one() -> None:
    pair = authority().issue(NAME, "127.0.0.1", days=3)
    handshake(pair, authority().client())
    handshake(pair, authority().client(), "127.0.0.1")
    assert 2.9 < (pair.ends - time.time()) / 86400 < 3.1


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        (authority().issue(NAME, expired=True), "has expired"),
        (authority().issue("other.example.net"), "Hostname mismatch"),
        (Authority().issue(NAME), "unable to get local issuer"),
        (self_signed(NAME), "self.signed"),
    ],
    ids=["expired", "wrong name", "unknown authority", "self-signed"],
)
def test_bad_ones(pair: Pair, complaint: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
        handshake(pair, authority().client())


def test_files(tmp_path: Path) -> None:
    """What is written can be loaded, and replacing a file makes a new inode."""
    certificate, key = authority().issue(NAME).write(tmp_path)
    before = certificate.stat().st_ino
    assert "PRIVATE KEY" in key.read_text()
    authority().issue(NAME).write(tmp_path)
    assert certificate.stat().st_ino != before
    ssl.create_default_context(cafile=str(authority().write(tmp_path)))
