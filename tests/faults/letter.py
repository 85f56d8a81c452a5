"""The mail of the campaigns: made from a seed, and read again by the next hop.

A letter carries its id and the hash of its body; its id also stands in its addresses. The first word of a
recipient says what the next hop answers: ok, later (451 once), never (550), late (451 once, after the dot),
refused (554 after the dot).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from random import Random

from faults.history import Arrival, Notice

HOSTNAME = "relay.example"  # of the relay under test
POSTMASTER = "postmaster@ops.example"
DOMAINS = ("a.example", "b.example", "c.example")  # one lane each
LARGE = 128 * 1024  # octets; beyond this the relay keeps content in a file
_ID = re.compile(rb"^X-Letter: (\S+)\r?$", re.M)
_RECEIVED = re.compile(rb"Received: from [^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")
_QUEUE_ID = re.compile(rb" id ([0-9a-z]+)")


@dataclass(frozen=True, slots=True)
class Letter:
    id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes  # CRLF line ends, dots not doubled

    @property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()

    @property
    def wire(self) -> bytes:
        """As DATA wants it, with the final dot."""
        return (b"\r\n" + self.content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def letter(
    name: str, random: Random, words: Sequence[str] = ("ok",), size: int = 500, sender: str = "app"
) -> Letter:
    """One letter. words: what each recipient's address begins with; size: octets of body; sender "": null."""
    recipients = tuple(
        f"{word}.{place}.{name}@{DOMAINS[place % len(DOMAINS)]}" for place, word in enumerate(words)
    )
    text = base64.encodebytes(random.randbytes(size * 3 // 4)).replace(b"\n", b"\r\n")
    body = b".a line that begins with a dot\r\n" + text
    head = (
        f"From: app@sender.example\r\nTo: somebody@a.example\r\nSubject: letter {name}\r\n"
        f"Message-ID: <{name}@sender.example>\r\nX-Letter: {name}\r\n"
        f"X-Body: {sha256(body).hexdigest()}\r\n\r\n"
    )
    return Letter(name, f"{sender}.{name}@sender.example" if sender else "", recipients, head.encode() + body)


def mixed(name: str, random: Random) -> Letter:
    """One letter of a mixed load: mostly small and to one, some large, some to many, all kinds of answers."""
    count = random.choices((1, random.randint(2, 5), random.randint(20, 60)), (80, 15, 5))[0]
    words = random.choices(("ok", "later", "never"), (80, 13, 7), k=count)
    if random.random() < 0.06:
        words = [random.choice(("late", "refused"))] * count
    size = random.choices(
        (random.randint(10, 4000), random.randint(4000, LARGE - 2000), random.randint(LARGE, 4 * LARGE)),
        (80, 12, 8),
    )[0]
    return letter(name, random, words, size, "" if random.random() < 0.1 else "app")


# --- the next hop's side


def id_of(address: str) -> str:
    """The letter that an address was made for, "" for none."""
    return address.partition("@")[0].rpartition(".")[2]


def word_of(address: str) -> str:
    return address.partition(".")[0]


def read_arrival(content: bytes, sender: str, recipients: Sequence[str], at: float) -> Arrival | Notice:
    """What came in: a letter or a bounce about one. Content without doubled dots."""
    received = _RECEIVED.match(content)
    found = _QUEUE_ID.search(received[0]) if received and HOSTNAME.encode() in received[0] else None
    if not sender and found is None and is_report(content):
        return read_notice(content, at)
    below = content[received.end() :] if received and found else content
    named = _ID.search(below)
    name = named[1].decode() if named else ""
    return Arrival(name, found[1].decode() if found else "", tuple(recipients), sha256(below).hexdigest(), at)


def is_report(content: bytes) -> bool:
    return b"\r\nContent-Type: multipart/report;" in content[:4000]


def read_notice(content: bytes, at: float = 0.0, waiting: bool = False) -> Notice:
    """A report (RFC 3464): whom it gives up, about which letter. Its Message-ID stands for its queue id."""
    report = message_from_bytes(content)
    failed = tuple(
        str(part["Final-Recipient"]).partition(";")[2].strip()
        for part in report.walk()
        if str(part.get("Action", "")).strip() == "failed"
    )
    named = _ID.search(content)
    name = named[1].decode() if named else id_of(failed[0]) if failed else ""
    return Notice(name, _own_id(report), failed, waiting, at)


def _own_id(report: Message) -> str:
    return str(report["Message-ID"]).strip("<> ").partition("@")[0]
