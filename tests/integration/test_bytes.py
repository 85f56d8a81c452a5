"""Promise 4: bytes are carried, not rewritten: real clients, a recording sink, a real Postfix."""

from __future__ import annotations

import email
import smtplib
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from fakes import corpus
from fakes.nsd import nsd
from fakes.postfix import Postfix
from fakes.relay_process import RelayProcess
from fakes.sink import RecordingSink
from fakes.tools import require_tool

MAIL = corpus.files()
NOT_EMPTY = [path for path in MAIL if path.stat().st_size]  # swaks takes no empty file
ROUNDS = 25  # of smtplib over all files; with the other clients more than 2,000 messages


def below_received(content: bytes) -> bytes:
    """The message without the relay's own Received header on top."""
    assert content.startswith(b"Received: from ")
    at = content.index(b"\r\n")
    while content[at + 2 : at + 3] in b" \t":
        at = content.index(b"\r\n", at + 2)
    return content[at + 2 :]


def send_smtplib(port: int, files: list[Path], recipient: str) -> int:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo()
        for path in files:
            options = ["BODY=8BITMIME", "SMTPUTF8"]
            client.sendmail("app@sender.example", [recipient], path.read_bytes(), options)
    return len(files)


def send_rounds(port: int, recipient: str, rounds: int) -> int:
    """All files, so many times, over four connections at a time."""
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(lambda _: send_smtplib(port, MAIL, recipient), range(rounds)))


def send_swaks(port: int, path: Path, recipient: str) -> int:
    command = [
        require_tool("swaks", "swaks"), "--server", f"127.0.0.1:{port}", "--from", "app@sender.example",
        "--to", recipient, "--data", f"@{path}", "--no-strip-from",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return 1


def send_all_swaks(port: int, recipient: str) -> int:
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(lambda path: send_swaks(port, path, recipient), NOT_EMPTY))


def sent_by_swaks() -> Counter[str]:
    """What swaks makes of the files (it adds lines and expands some sequences): seen without a relay."""
    with RecordingSink() as direct:
        send_all_swaks(direct.port, "swaks@example.com")
        return Counter(sha256(message.content).hexdigest() for message in direct.messages)


def send_smtp_source(port: int, count: int, recipient: str) -> int:
    command = [
        require_tool("smtp-source", "postfix"), "-s", "10", "-m", str(count), "-l", "3000", "-N",
        "-f", "app@sender.example", "-t", recipient, f"127.0.0.1:{port}",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return count


@pytest.fixture
def sink() -> Iterator[RecordingSink]:
    with RecordingSink() as sink:
        yield sink


def test_there_are_forty_shapes() -> None:
    assert len({sha256(path.read_bytes()).digest() for path in MAIL}) >= 40


def test_two_thousand_messages_arrive_byte_exact(sink: RecordingSink, tmp_path: Path) -> None:
    """smtplib and swaks send every file, smtp-source its own; each arrives once, as it was sent."""
    routes = [{"name": "all", "via": [f"127.0.0.1:{sink.port}"]}]
    with RelayProcess(tmp_path, {"routes": routes}) as relay:
        sent = send_rounds(relay.smtp_port, "lib@example.com", ROUNDS)
        swaks = send_all_swaks(relay.smtp_port, "swaks@example.com")
        made = send_smtp_source(relay.smtp_port, 400, "source@example.com")
        assert sent + swaks + made >= 2000
        sink.wait(sent + swaks + made, 120)
        relay.wait_until(lambda: relay.waiting() == 0, "empty")
    # smtplib makes an empty line of an empty message
    by_smtplib = [corpus.arrives(path.read_bytes()) or b"\r\n" for path in MAIL * ROUNDS]
    expected = Counter(sha256(content).hexdigest() for content in by_smtplib)
    arrived = Counter(sha256(below_received(m.content)).hexdigest() for m in sink.of("lib@example.com"))
    assert arrived == expected
    by_swaks = Counter(sha256(below_received(m.content)).hexdigest() for m in sink.of("swaks@example.com"))
    assert by_swaks == sent_by_swaks()
    numbered = Counter(
        m.recipients[0] for m in sink.messages if m.recipients[0].endswith("source@example.com")
    )
    assert len(numbered) == made
    assert set(numbered.values()) == {1}


def test_postfix_found_by_mx_takes_two_thousand(tmp_path: Path) -> None:
    """A real Postfix behind an MX record of a DNS server accepts them all, none missing, none twice."""
    with Postfix(domains=["example.com"]) as postfix:
        with nsd(tmp_path / "dns", "example.com", "@ IN MX 10 mx\nmx IN A 127.0.0.1\n") as dns:
            config = {"mx": {"port": postfix.port, "tls": "none"}, "dns": {"servers": [dns]}}
            with RelayProcess(tmp_path, config) as relay:
                sent = send_rounds(relay.smtp_port, "a@example.com", 31)
                assert sent >= 2000
                postfix.wait(sent, 120)
                relay.wait_until(lambda: relay.waiting() == 0, "empty")
        mail = postfix.mail()
    assert len(mail) == sent
    ids = Counter(our_id(content) for content in mail)
    assert len(ids) == sent


def our_id(content: bytes) -> str:
    """The queue id in the Received header of the relay: the second one from the top."""
    received = email.message_from_bytes(content).get_all("Received", [])
    ours = next(str(header) for header in received if "by relay.example" in str(header))
    return ours.split(" id ")[1].split()[0]
