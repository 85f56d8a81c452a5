"""The text of users_file: what is read of it, what is said about what is wrong."""

from __future__ import annotations

import base64
import hashlib

import pytest

from relay.users.listing import NAME_LIMIT, Listing, check_name, parse_listing
from relay.users.password import MEMORY_LIMIT, WORK_LIMIT, Cost, make_hash, parse_hash

CHEAP = Cost(ln=10)
LINE = make_hash("geheim", bytes(range(16)), CHEAP).line


def test_users_comments_and_blank_lines() -> None:
    """Each user with its senders; the rest is skipped."""
    listing = parse_listing(f"# who\n\n  anna:{LINE}\r\n\tci@b.example:{LINE}:@b.example, <>\n#bert:{LINE}\n")
    assert (sorted(listing.users), listing.problems) == (["anna", "ci@b.example"], ())
    anna, robot = listing.users["anna"], listing.users["ci@b.example"]
    assert (anna.patterns, robot.patterns) == ((), ("@b.example", "<>"))
    assert [robot.may_send_as(sender) for sender in ("x@B.example", "", "x@sub.b.example", "x")] == [
        True,
        True,
        False,
        False,
    ]
    assert anna.may_send_as("") and anna.may_send_as("any@where.example")


SECRET = "hunter2hunter2"
WRONG = {
    "no colon": SECRET,
    "a password in clear": f"bert:{SECRET}",
    "bcrypt": f"bert:$2y$05${SECRET}",
    "no name": f":{LINE}",
    "space": f"b ert:{LINE}",
    "control": f"b\x07ert:{LINE}",
    "long": f"{'b' * (NAME_LIMIT + 1)}:{LINE}",
    "memory": "bert:" + LINE.replace("ln=10", "ln=20"),
    "time": "bert:" + LINE.replace("p=1", "p=99").replace("ln=10", "ln=15"),
    "weak": "bert:" + LINE.replace("ln=10", "ln=2"),
    "zero": "bert:" + LINE.replace("r=8", "r=0"),
    "short salt": "bert:$scrypt$ln=10,r=8,p=1$AAAA$" + LINE.rpartition("$")[2],
    "base64": "bert:" + LINE[:-2],
    "sender": f"bert:{LINE}:a*b@c.example",
    "twice": f"anna:{LINE}",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_line_takes_nobody_else_away(what: str) -> None:
    """It is named by its number; nothing of it that may be a secret is."""
    listing = parse_listing(f"anna:{LINE}\n\n{WRONG[what]}\ncarl:{LINE}\n")
    assert sorted(listing.users) == ["anna", "carl"]
    ((number, text),) = listing.problems
    assert number == 3 and text
    assert SECRET not in text and LINE.rpartition("$")[2] not in text


def test_the_first_of_two_lines_holds() -> None:
    """And the second is named."""
    other = make_hash("other", bytes(16), CHEAP).line
    listing = parse_listing(f"anna:{LINE}\nanna:{other}\n")
    assert listing.users["anna"].hash.line == LINE
    assert [number for number, _ in listing.problems] == [2]


def test_names_are_compared_in_nfc() -> None:
    """However the file's editor typed them."""
    assert "b\u00e4r" in parse_listing(f"ba\u0308r:{LINE}").users
    assert check_name("ba\u0308r") == "b\u00e4r"


def test_hashes_are_scrypt() -> None:
    """The digest is RFC 7914's, in the form of passlib; passwords in NFC; the text comes back as it was."""
    made = make_hash("p\u00e4ss", b"saltsaltsaltsalt", Cost(ln=11, r=4, p=2))
    head, _, digest = made.line.rpartition("$")
    expected = hashlib.scrypt("p\u00e4ss".encode(), salt=b"saltsaltsaltsalt", n=2048, r=4, p=2, dklen=32)
    assert base64.b64decode(digest + "=") == expected
    assert head == "$scrypt$ln=11,r=4,p=2$c2FsdHNhbHRzYWx0c2FsdA"
    read = parse_hash(made.line)
    assert read == made
    assert [read.matches(text) for text in ("p\u00e4ss", "pa\u0308ss", "pass", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_line_of_another_maker_is_read() -> None:
    """passlib.hash.scrypt of "password" with its own parameters (ln=16 needs 64 MiB)."""
    line = "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
    assert parse_hash(line).matches("password")


def test_the_costliest_line_is_bounded() -> None:
    """What the file may ask for: about 64 MiB, and sixteen times the time of the default."""
    for ln in range(10, 25):
        for r in (1, 8, 32, 99):
            for p in (1, 16, 99):
                try:
                    cost = parse_hash(LINE.replace("ln=10,r=8,p=1", f"ln={ln},r={r},p={p}")).cost
                except ValueError:
                    continue
                assert cost.memory <= MEMORY_LIMIT + 2**20 and (cost.r * cost.p) << cost.ln <= WORK_LIMIT
    assert Cost().memory < 34 * 2**20


def test_an_unknown_name_costs_what_most_cost() -> None:
    """The parameters that most lines have; the default where there is none."""
    other = LINE.replace("ln=10", "ln=11")
    assert parse_listing(f"a:{LINE}\nb:{other}\nc:{other}\n").cost == Cost(ln=11)
    assert Listing().cost == Cost()


def test_nothing_shows_a_hash() -> None:
    """repr() of what holds one."""
    listing = parse_listing(f"anna:{LINE}")
    assert LINE.rpartition("$")[2] not in repr(listing) + repr(listing.users["anna"].hash)
