"""The From header: what of it is replaced, and that every other octet stays.

Promise 4: bytes are carried; the address in From is changed only where a rule asks for it.
"""

from __future__ import annotations

import pytest
from fakes.front import Bench
from hypothesis import given
from hypothesis import strategies as st

from relay.config.model import Rewrite
from relay.front.from_header import LINE_LIMIT, rewrite_from
from relay.front.intake import HEAD_LIMIT
from relay.front.rewrite import Rewriter

ORIGIN = "corp.example"
RULES = [
    {"from": "dba@db1.local", "to": "dba@example.com"},
    {"from": "root@*.local", "to": "ops@example.com", "header": True},
    {"from": "@*.internal", "to": "@example.com", "header": True},
    {"from": "root@corp.example", "to": "ops@example.com", "header": True},
    {"from": "@bücher.example", "to": "@example.com", "header": True},
    {"from": "dba@*", "to": "ops@example.com", "header": True},
]
REWRITER = Rewriter([Rewrite.model_validate(rule) for rule in RULES])


def rewritten(section: bytes) -> bytes:
    return rewrite_from(section, REWRITER.author, ORIGIN)


# (field, field afterwards): `{}` stands for ops@example.com
REPLACED = [
    (b"From: root", b"From: {}"),
    (b"From: root (Cron Daemon)", b"From: {} (Cron Daemon)"),
    (b'From: "Cron" <root@host.local>', b'From: "Cron" <{}>'),
    (b"From: Cron Daemon <root@host.local>", b"From: Cron Daemon <{}>"),
    (b"FROM:root@host.local", b"FROM:{}"),
    (b"from \t: ROOT@Host.LOCAL  ", b"from \t: {}  "),
    (b"From:\r\n\troot@host.local", b"From:\r\n\t{}"),
    (
        b'From: "Cron,\r\n Daemon"\r\n <\r\n\troot@host.local > (x)',
        b'From: "Cron,\r\n Daemon"\r\n <\r\n\t{} > (x)',
    ),
    (b"From: root@a.local, root@b.example, X <root@c.local>", b"From: {}, root@b.example, X <{}>"),
    (b"From: , root@a.local,", b"From: , {},"),
    (b"From: (a (b \\) c) d) root@a.local (e)", b"From: (a (b \\) c) d) {} (e)"),
    (b"From: root@x.local <root@a.local>", b"From: root@x.local <{}>"),
    (b"From: [web1] Ops <root@a.local>", b"From: [web1] Ops <{}>"),
    (b'From: "a \\" <root@x.local>, b" <root@a.local>', b'From: "a \\" <root@x.local>, b" <{}>'),
    (b"From: =?utf-8?Q?J=C3=B6?= <root@a.local>", b"From: =?utf-8?Q?J=C3=B6?= <{}>"),
    (b"From: J\xc3\xb6rg <root@a.local>", b"From: J\xc3\xb6rg <{}>"),
    (b"From: J\xf6rg <root@a.local>", b"From: J\xf6rg <{}>"),
    (b"From: \xe2\x98\x83@x.internal", b"From: \xe2\x98\x83@example.com"),
    (b"From: a@b\xc3\xbccher.example", b"From: a@example.com"),
    (b"From: Build <ci+7@a.b.internal>", b"From: Build <ci+7@example.com>"),
    (b'From: "a b"@x.internal', b'From: "a b"@example.com'),
    (b"From: Admin <root>", b"From: Admin <{}>"),
    (b"From: A <root>, B <root>", b"From: A <{}>, B <{}>"),
    (b"From: root@host.local.", b"From: {}"),
    (b"From: dba@db2.local", b"From: {}"),
]
LEFT_ALONE = [
    b"From: a@b.example",
    b"From: toor",
    b"From: dba@db1.local",  # the first rule that fits is not for the header
    b"From: Ops: root@a.local;",
    b"From: Ops: root@a.local, b <root@c.local>;",
    b"From: undisclosed-recipients:;",
    b"From: <@x.example:root@a.local>",
    b"From: Alert: disk <root@a.local>",
    b"From:",
    b"From: ",
    b"From: <>",
    b"From: ()",
    b"From: root, admin",
    b"From: root, John <john@x.example>",
    b"From: John root",
    b"From: root @a.local",
    b"From: root@ a.local",
    b"From: root@(x)a.local",
    b"From: root@a.local admin",
    b"From: <root@a.local> x",
    b"From: <root@a.local> <root@b.local>",
    b"From: <<root@a.local>>",
    b"From: root@a.local>",
    b"From: <root@a.local",
    b'From: "Cron <root@a.local>',
    b'From: "root"',
    b"From: (Cron root@a.local",
    b"From: Cron) <root@a.local>",
    b"From: root\\@a.local",
    b"From: root@a@b.local",
    b"From: root@",
    b"From: @a.local",
    b"From: [root@a.local]",
    b"From: root\x00 <root@a.local>",
    b"From: \xff@x.internal",
    b"From: " + b"r" * 300 + b"@x.internal",
    b"Sender: root@a.local",
    b"Reply-To: root@a.local",
    b"Resent-From: root@a.local",
    b"X-From: root@a.local",
    b"From root@a.local Thu Nov 21 22:15:21",
    b"Subject: x\r\n From: root@a.local",
]
BEFORE = b"Received: from x\r\n\tby y; z\r\nfromage: root@a.local\r\n"
AFTER = b"To: root@a.local\r\nSubject: From: root@a.local\r\n"


@pytest.mark.parametrize(("field", "new"), REPLACED)
def test_the_address_is_replaced(field: bytes, new: bytes) -> None:
    """It alone; once more changes nothing."""
    wanted = BEFORE + new.replace(b"{}", b"ops@example.com") + b"\r\n" + AFTER
    assert rewritten(BEFORE + field + b"\r\n" + AFTER) == wanted
    assert rewritten(wanted) == wanted


@pytest.mark.parametrize("field", LEFT_ALONE)
def test_what_is_left_alone(field: bytes) -> None:
    """What no rule fits, and what is not understood."""
    section = BEFORE + field + b"\r\n" + AFTER
    assert rewritten(section) is section


def test_a_header_without_from_gets_none() -> None:
    section = BEFORE + AFTER
    assert rewritten(section) is section
    assert rewritten(b"") == b""


def test_each_of_several_fields() -> None:
    """Two From fields are wrong (RFC 5322 3.6); each address is treated alike, in place."""
    section = b"From: root@a.local\r\n" + AFTER + b"From: root@b.local\r\n"
    assert rewritten(section) == b"From: ops@example.com\r\n" + AFTER + b"From: ops@example.com\r\n"


def test_the_line_of_a_mailbox_file_is_passed_over() -> None:
    """As first line only; any other line that is no field ends the header."""
    line = b"From root Thu Nov 21 22:15:21 2024\r\n"
    assert rewritten(line + b"From: root\r\n") == line + b"From: ops@example.com\r\n"
    text = b"Subject: x\r\nhello\r\nFrom: root\r\n"
    assert rewritten(text) is text
    assert (
        rewritten(b"Subject: x\r\n" + line + b"From: root\r\n")
        == b"Subject: x\r\n" + line + b"From: root\r\n"
    )


def test_no_line_becomes_too_long() -> None:
    """RFC 5322 2.1.1: such a field is left alone."""
    for length, changed in (
        (LINE_LIMIT - len(b" <ops@example.com>"), True),
        (LINE_LIMIT - len(b" <root@a.local>"), False),
    ):
        section = b"From: ".ljust(length, b"x") + b" <root@a.local>\r\n"
        assert (rewritten(section) != section) is changed


def test_an_empty_origin_is_no_address() -> None:
    """Nothing fits "root@"."""
    assert rewrite_from(b"From: root\r\n", REWRITER.author, "") == b"From: root\r\n"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", [b"(", b'"', b"\\(", b"<", b",", b"a,", b"a@", b"()", b" \r\n ", b"a.", b"["]
)
def test_wicked_fields_are_read_in_one_pass(piece: bytes) -> None:
    """Promise 7: 64 KiB of the worst take no more than a moment."""
    section = b"From: " + piece * (HEAD_LIMIT // len(piece)) + b"\r\n"
    assert rewritten(section) == section


# --- everything outside the address

ATOM = st.text("abcXYZ019.+-=_?", min_size=1, max_size=8).map(str.encode)
SPACE = st.sampled_from([b"", b" ", b"\t", b"\r\n ", b" \r\n\t "])
COMMENT = st.sampled_from([b"(x)", b"(Cron (the) Daemon)", b"(a\\)b)", b"()", b"(root@a.local)"])
QUOTED = st.sampled_from([b'"x"', b'"a, <root@b.local>"', b'"\\""', b'"a\r\n b"', b'"\xc3\xb6"'])
GAP = st.tuples(SPACE, st.one_of(st.just(b""), COMMENT), SPACE).map(b"".join)
ADDRESS = st.sampled_from(
    [(b"root@web1.local", b"ops@example.com"), (b"ci@x.internal", b"ci@example.com"), (b"a@b.example",) * 2]
)


@st.composite
def mailbox(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A mailbox before and after, of random shape."""
    old, new = draw(ADDRESS)
    before, after = draw(GAP), draw(GAP)
    if draw(st.booleans()):
        name = b" ".join(draw(st.lists(st.one_of(ATOM, QUOTED), max_size=3)))
        before, after = before + name + draw(GAP) + b"<" + draw(GAP), draw(GAP) + b">" + after
    return before + old + after, before + new + after


FIELD = st.tuples(
    st.sampled_from([b"Subject", b"To", b"X-From", b"Reply-To", b"Froms"]),
    st.binary(max_size=30).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"")),
).map(lambda each: each[0] + b":" + each[1] + b"\r\n")


@given(st.lists(mailbox(), min_size=1, max_size=4), st.lists(FIELD, max_size=3), st.lists(FIELD, max_size=3))
def test_all_but_the_address_stays(
    mailboxes: list[tuple[bytes, bytes]], before: list[bytes], after: list[bytes]
) -> None:
    """Names, comments, folding, other fields and their order: byte for byte."""
    old, new = (
        b"".join(before) + b"From:" + b",".join(side) + b"\r\n" + b"".join(after)
        for side in zip(*mailboxes, strict=True)
    )
    assert rewritten(old) == new
    assert rewritten(new) == new


@given(st.text(st.sampled_from('root@a.local<>(),:;"\\ \t[]ö'), max_size=60).map(str.encode))
def test_any_field_at_all(body: bytes) -> None:
    """Never an exception, idempotent, the next field untouched."""
    once = rewritten(b"From:" + body + b"\r\n" + AFTER)
    assert once.startswith(b"From:") and once.endswith(b"\r\n" + AFTER)
    assert rewritten(once) == once


# --- in a session

MAIL = b"From: root (Cron Daemon)\r\nTo: root\r\nSubject: Cron <root@web1> x\r\n\r\nFrom: root@web1.local\r\n"


def accepted(message: bytes, **config: object) -> Bench:
    bench = Bench({"origin": ORIGIN, "rewrite": RULES, **config})
    bench.begin(b"MAIL FROM:<root@web1.local> SMTPUTF8")
    assert bench.send(message + b".\r\n")[0].startswith("250 2.0.0")
    return bench


def test_only_the_header_is_looked_at() -> None:
    """Not the body, and not what came in pieces either."""
    wanted = MAIL.replace(b"From: root (", b"From: ops@example.com (")
    assert accepted(MAIL).content == wanted
    bench = Bench({"origin": ORIGIN, "rewrite": RULES})
    bench.begin()
    for at in range(len(MAIL)):
        bench.send(MAIL[at : at + 1])
    bench.send(b".\r\n")
    assert bench.content == wanted


def test_without_a_rule_for_the_header_it_stays() -> None:
    """Off by default."""
    quiet = [{"from": "@*", "to": "ops@example.com"}]
    assert accepted(MAIL, rewrite=quiet).content == MAIL


def test_a_message_that_is_all_header() -> None:
    """Its end is the message's."""
    assert accepted(b"From: root\r\n").content == b"From: ops@example.com\r\n"


def test_a_header_that_never_ends_is_left_alone() -> None:
    """What is not whole within the limit is carried as it came, in one read or in many."""
    message = b"From: root\r\n" + b"X: y\r\n" * (HEAD_LIMIT // 6 + 10) + b"\r\nbody\r\n"
    assert accepted(message).content == message
    bench = Bench({"origin": ORIGIN, "rewrite": RULES})
    bench.begin()
    for at in range(0, len(message), 1000):
        bench.send(message[at : at + 1000])
    bench.send(b".\r\n")
    assert bench.content == message


def test_utf8_is_not_needed_for_what_is_gone() -> None:
    """The only non-ASCII in the header was the address that was replaced."""
    bench = accepted("From: a@bücher.example\r\n\r\n".encode())
    assert bench.content == b"From: a@example.com\r\n\r\n"
    assert bench.events.receipts[0][1].smtputf8 is False
