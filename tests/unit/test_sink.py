"""The sink of the tests itself: what it writes down must be what was sent, or every byte test lies."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import time

import pytest
from fakes.sink import HANG_UP, RecordingSink


def send(port: int, script: bytes) -> bytes:
    """All of the script in one piece, then everything that came back until the sink closed."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(script)
        connection.settimeout(5)
        answer = b""
        while data := connection.recv(4096):
            answer += data
        return answer


ENVELOPE = b"EHLO x\r\nMAIL FROM:<a@example.com> SIZE=1\r\nRCPT TO:<b@example.com> NOTIFY=NEVER\r\nDATA\r\n"


@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b"", b""),
        (b"..\r\n", b".\r\n"),
        (b"...\r\n..\r\nx.\r\n", b"..\r\n.\r\nx.\r\n"),
        (b"\n.\n\r.\r\n\0\xff\r\n", b"\n.\n\r.\r\n\0\xff\r\n"),
    ],
)
def test_content_is_byte_exact(wire: bytes, content: bytes) -> None:
    """Dots are un-stuffed and nothing else is touched; only CRLF.CRLF ends it."""
    with RecordingSink() as sink:
        answer = send(sink.port, ENVELOPE + wire + b".\r\nQUIT\r\n")
        (message,) = sink.wait(1)
    assert [line[:3] for line in answer.split(b"\r\n")][-4:-1] == [b"354", b"250", b"221"]
    assert (message.wire, message.content, message.size) == (wire, content, len(wire))
    assert (message.sender, message.parameters) == ("a@example.com", "SIZE=1")
    assert (message.recipients, message.options) == (["b@example.com"], ["NOTIFY=NEVER"])


def test_answers_are_given_in_turn() -> None:
    """A list is used up, then 250; a text stays; a refused recipient is not written down."""
    sink = RecordingSink()
    sink.answers.update({"b@example.com": ["451 4.2.1 later"], "c@example.com": "550 5.1.1 unknown"})
    with sink, smtplib.SMTP("127.0.0.1", sink.port) as client:
        refused = client.sendmail("a@example.com", [f"{who}@example.com" for who in "bcd"], b"x")
        assert {address: code for address, (code, _) in refused.items()} == {
            "b@example.com": 451,
            "c@example.com": 550,
        }
        client.sendmail("a@example.com", ["b@example.com"], b"x")
        first, second = sink.wait(2)
    assert (first.recipients, second.recipients) == (["d@example.com"], ["b@example.com"])


def test_a_stage_can_hang_up() -> None:
    """At the dot: the bytes came, no reply was given, the message counts as refused."""
    sink = RecordingSink()
    sink.answers["DOT"] = [HANG_UP]
    with sink:
        answer = send(sink.port, ENVELOPE + b"x\r\n.\r\n")
    assert answer.endswith(b"354 go on\r\n")
    assert (len(sink.messages), [message.wire for message in sink.refused]) == (0, [b"x\r\n"])


def test_a_delay_holds_only_its_reply() -> None:
    """What was answered before is not held back; what comes after waits."""
    sink = RecordingSink()
    sink.delays["DOT"] = 0.2
    with sink:
        begun = time.monotonic()
        answer = send(sink.port, ENVELOPE + b".\r\nQUIT\r\n")
    assert time.monotonic() - begun >= 0.2
    assert answer.endswith(b"250 2.0.0 kept\r\n221 2.0.0 bye\r\n")


async def test_closed_refuses_and_opens_again() -> None:
    """In the loop of the test: down, the port refuses; up again, it is the same port."""
    async with RecordingSink() as sink:
        _, writer = await asyncio.open_connection("127.0.0.1", sink.port)
        await sink.shut()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", sink.port)
        await sink.reopen()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
        writer.write(ENVELOPE + b"x\r\n.\r\nQUIT\r\n")
        assert (await reader.read()).endswith(b"221 2.0.0 bye\r\n")
        writer.close()
        assert [message.content for message in await sink.arrived(1)] == [b"x\r\n"]


def test_too_few_messages_fail() -> None:
    """Waiting for what does not come ends with what did."""
    with RecordingSink() as sink, pytest.raises(AssertionError, match=r"0 of 1 messages after 0\.01 s"):
        sink.wait(1, 0.01)


def test_forgets_the_bytes_when_told() -> None:
    """keep=False: size and digest remain."""
    with RecordingSink(keep=False) as sink:
        send(sink.port, ENVELOPE + b"x\r\n.\r\nQUIT\r\n")
        (message,) = sink.wait(1)
    assert (message.wire, message.size, len(message.digest)) == (b"", 3, 64)
