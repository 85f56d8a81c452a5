"""What attackers try at the door, end to end: judged by what a next hop was given (promises 4 and 7)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink

ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n", b"")
SMUGGLED = b"MAIL FROM:<evil@attack.example>\r\nRCPT TO:<victim@attack.example>\r\nDATA\r\nsmuggled\r\n.\r\n"
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
HOST = "relay.example"
PROBES = [  # those of nmap's smtp-open-relay, and some more; victim.example is not ours, neither is anything
    ("", "user@victim.example"),
    ("a@relay.example", "user@victim.example"),
    ("a@[127.0.0.1]", "user@victim.example"),
    ("a@relay.example", "user%victim.example@[127.0.0.1]"),
    ("a@relay.example", "user%victim.example@relay.example"),
    ("a@relay.example", '"user@victim.example"'),
    ("a@relay.example", '"user%victim.example"'),
    ("a@relay.example", "user@victim.example@[127.0.0.1]"),
    ("a@relay.example", '"user@victim.example"@[127.0.0.1]'),
    ("a@relay.example", "user@victim.example@relay.example"),
    ("a@relay.example", "@[127.0.0.1]:user@victim.example"),
    ("a@relay.example", "@relay.example:user@victim.example"),
    ("a@relay.example", "victim.example!user"),
    ("a@relay.example", "victim.example!user@[127.0.0.1]"),
    ("a@relay.example", "victim.example!user@relay.example"),
    ("a@relay.example", "postmaster"),
    ("user@victim.example", "user@relay.example"),
    ("a@relay.example", "user@localhost"),
    ("a@relay.example", "user@[IPv6:::1]"),
]


@contextmanager
def relaying(directory: Path, **config: object) -> Iterator[tuple[RelayProcess, RecordingSink]]:
    with RecordingSink() as sink:
        routes = {"routes": [{"via": [f"127.0.0.1:{sink.port}"], "tls": "none"}]}
        with RelayProcess(directory, {**routes, **config}) as relay:
            yield relay, sink


def spoken(port: int, *pieces: bytes, greeted: bool = True) -> list[bytes]:
    """Sends the pieces and no more; every reply line until the relay closes. greeted: after the banner."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        early = client.recv(512) if greeted else b""
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        said = early
        try:
            while data := client.recv(65536):
                said += data
        except ConnectionResetError:
            pass  # it closed while something of ours was unread
        return said.split(b"\r\n")[:-1]


def codes(lines: Sequence[bytes]) -> list[int]:
    return [int(line[:3]) for line in lines if line[3:4] == b" "]


@pytest.mark.parametrize("bare_newlines", ["normalize", "reject"])
def test_no_message_is_smuggled(tmp_path: Path, bare_newlines: str) -> None:
    """CVE-2023-51764 and its like: whatever stands around a dot, there is one message or none; and what goes
    out has no line end that a lax next hop could take for another."""
    fakes = [(a, b) for a, b in product(ENDS, ENDS) if b"\r\n.\r\n" not in a + b"." + b]
    wanted = sum(bare_newlines == "normalize" or not BARE.search(a + b"." + b + b"M") for a, b in fakes)
    taken = 0
    with relaying(tmp_path, content={"bare_newlines": bare_newlines}) as (relay, sink):
        for number, (before, behind) in enumerate(fakes):
            lines = spoken(
                relay.smtp_port,
                b"EHLO c\r\n",
                f"MAIL FROM:<a@client.example>\r\nRCPT TO:<x{number}@there.example>\r\nDATA\r\n".encode(),
                b"Subject: x\r\n\r\nhello" + before + b"." + behind + SMUGGLED,
            )
            queued = sum(b"queued as" in line for line in lines)
            assert queued <= 1 and 354 in codes(lines)
            taken += queued
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
        messages = sink.wait(taken)
        assert taken == len(messages) == len({message.recipients[0] for message in messages})
        assert taken == wanted and wanted > 5 and len(fakes) > 55
        for message in messages:
            assert message.sender == "a@client.example"
            assert not BARE.search(message.wire)
            assert b"\r\n.\r\n" not in message.wire
            assert message.wire.count(b"smuggled") == 1
        assert not any(b"evil" in line for line in sink.commands)


def test_nobody_relays_through_us(tmp_path: Path) -> None:
    """For a stranger there is no form of an address that gets through."""
    with relaying(tmp_path, trusted_networks=["192.0.2.0/24"]) as (relay, sink):
        for sender, recipient in PROBES:
            lines = spoken(
                relay.smtp_port,
                f"EHLO c\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode(),
                b"Subject: x\r\n\r\nspam\r\n.\r\nQUIT\r\n",
            )
            recipient_code, data_code = codes(lines)[3:5]
            assert recipient_code // 100 == 5 and data_code // 100 == 5, (sender, recipient, lines)
        assert relay.waiting() == 0 and sink.sessions == 0


MAIL = (
    b"EHLO c\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n"
    b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
)


OTHERS = [
    b"POST / HTTP/1.1\r\nHost: relay:25\r\nContent-Type: text/plain\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PUT /x HTTP/1.0\r\n\r\n",
    b"CONNECT victim.example:25 HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n",
]


def test_another_protocol_brings_no_mail(tmp_path: Path) -> None:
    """A browser that was made to speak to us, with mail in what it sends; also before the banner."""
    with relaying(tmp_path) as (relay, sink):
        for opening in OTHERS:
            for greeted in (True, False):
                lines = spoken(relay.smtp_port, opening + MAIL, greeted=greeted)
                assert codes(lines) == [220, 554], (opening, greeted)
        assert relay.waiting() == 0 and sink.sessions == 0


def test_a_client_that_does_not_wait(tmp_path: Path) -> None:
    """All in one write, before the banner, with commands behind DATA that was refused: each command has one
    reply, in order, and only what was in order is sent."""
    with relaying(tmp_path) as (relay, sink):
        refused = b"MAIL FROM:<a@c.example>\r\nRCPT TO:<bad\r\nDATA\r\n"
        lines = spoken(relay.smtp_port, b"EHLO c\r\n" + refused + b"RSET\r\n" + MAIL, greeted=False)
        assert codes(lines) == [220, 250, 250, 501, 554, 250, 250, 250, 250, 354, 250, 221]
        assert [message.recipients for message in sink.wait(1)] == [["x@y.example"]]


def test_bare_line_feeds_are_no_commands(tmp_path: Path) -> None:
    """Two commands on one line, as a lax server would read them, are none."""
    with relaying(tmp_path) as (relay, sink):
        lines = spoken(
            relay.smtp_port, b"EHLO c\r\nMAIL FROM:<a@c.example>\nRCPT TO:<x@y.example>\r\nDATA\r\nQUIT\r\n"
        )
        assert codes(lines) == [220, 250, 500, 500, 503, 221]
        assert relay.waiting() == 0 and sink.sessions == 0
