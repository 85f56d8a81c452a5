"""The rules for envelope senders: which one fits, what it makes, and what of it is seen."""

from __future__ import annotations

import pytest
from fakes.front import Bench
from hypothesis import given
from hypothesis import strategies as st

from relay.config.model import Rewrite
from relay.front import rewrite
from relay.front.rewrite import Rewriter

OPS = "ops@example.com"


def rules(*pairs: tuple[str, str]) -> Rewriter:
    return Rewriter(Rewrite(from_=pattern, to=to) for pattern, to in pairs)


FITS = [
    ("root@web1.local", "root@web1.local", OPS, OPS),
    ("root@web1.local", "Root@WEB1.Local", OPS, OPS),
    ("Root@web1.local", "root@web1.local", OPS, OPS),
    ("@web1.local", "cron@web1.local", OPS, OPS),
    ("@web1.local", "Cron.D@WEB1.local", "@example.com", "Cron.D@example.com"),
    ("@web1.local", '"a@b"@web1.local', "@example.com", '"a@b"@example.com'),
    ("root@*.local", "root@web1.local", OPS, OPS),
    ("root@*.local", "root@a.b.local", "@example.com", "root@example.com"),
    ("*@*.internal", "ci+x@build.internal", "@example.com", "ci+x@example.com"),
    ("@*.internal", "ci@build.internal", OPS, OPS),
    ("cron*@web1.local", "CRON-daily@web1.local", OPS, OPS),
    ("cron*@web1.local", "cron@web1.local", OPS, OPS),
    ("*@db*.example", '"x@y"@db7.example', OPS, OPS),
    ("a.b@*.local", "a.b@c.local", OPS, OPS),
    ("@*", "who@ever.example", OPS, OPS),
    ("@bücher.example", "a@xn--bcher-kva.example", OPS, OPS),
    ("@xn--bcher-kva.example", "a@BÜCHER.example", OPS, OPS),
    ("*@*.bücher.example", "a@b.xn--bcher-kva.example", OPS, OPS),
    ("@bücher.example", "jörg@bücher.example", "@example.com", "jörg@example.com"),
    ("@[192.0.2.1]", "a@[192.0.2.1]", OPS, OPS),
    ("@web1.local", "a@web1.local", "@BÜCHER.example", "a@xn--bcher-kva.example"),
]
FITS_NOT = [
    ("root@web1.local", "root@web1.localnet"),
    ("root@web1.local", "xroot@web1.local"),
    ("@web1.local", "a@sub.web1.local"),
    ("@web1.local", '"@web1.local"@other.example'),
    ("root@*.local", "root@local"),
    ("root@*.local", "toor@web1.local"),
    ("root@*.local", "root@web1.local.example"),
    ("a.b@*.local", "aXb@c.local"),
    ("*@x.example", '"a@x.example"@y.example'),
    ("*@x*.example", '"u@xb"@c.example'),
    ("@*", ""),
    ("*@*", ""),
]


@pytest.mark.parametrize(("pattern", "address", "to", "new"), FITS)
def test_a_rule_fits(pattern: str, address: str, to: str, new: str) -> None:
    """Whatever the case of both; asked again, the answer is the same."""
    rewriter = rules((pattern, to))
    assert [rewriter.sender(address), rewriter.sender(address)] == [new, new]


@pytest.mark.parametrize(("pattern", "address"), FITS_NOT)
def test_a_rule_fits_not(pattern: str, address: str) -> None:
    """The address stays as it is; the null sender fits nothing."""
    assert rules((pattern, OPS)).sender(address) == address


ORDER = [
    ("root@*.local", "1@example.com"),
    ("@web1.local", "2@example.com"),
    ("root@db1.local", "3@example.com"),
    ("*@*.local", "4@example.com"),
    ("cron@db1.local", "5@example.com"),
    ("a@b.example", "6@example.com"),
    ("@b.example", "7@example.com"),
    ("c@b.example", "8@example.com"),
    ("a@b.example", "9@example.com"),
]


@pytest.mark.parametrize(
    ("address", "new"),
    [
        ("root@db1.local", "1@example.com"),
        ("root@web1.local", "1@example.com"),
        ("ci@web1.local", "2@example.com"),
        ("cron@db1.local", "4@example.com"),
        ("a@b.example", "6@example.com"),
        ("c@b.example", "7@example.com"),
    ],
)
def test_the_first_that_fits_wins(address: str, new: str) -> None:
    """In the order of the file, whatever kind of rule it is."""
    assert rules(*ORDER).sender(address) == new


def test_a_rule_is_applied_once() -> None:
    """What it makes may fit another rule, or itself."""
    rewriter = rules(("a@x.example", "b@x.example"), ("b@x.example", "c@x.example"))
    assert rewriter.sender("a@x.example") == "b@x.example"


def test_the_memory_of_senders_is_bounded() -> None:
    """Promise 7: whatever senders come, and the answers stay right."""
    rewriter = rules(("a*@x.example", "@y.example"))
    for number in range(3 * rewrite.MEMO_LIMIT):
        assert rewriter.sender(f"a{number}@x.example") == f"a{number}@y.example"
        assert len(rewriter._memo) <= rewrite.MEMO_LIMIT


@given(st.text(max_size=80))
def test_no_address_is_too_odd(address: str) -> None:
    """Never an exception; only what fits changes."""
    assert rules(("root@*.local", OPS), ("@x.example", OPS)).sender(address) in (address, OPS)


# --- in a session

CONFIG = {
    "origin": "corp.example",
    "rewrite": [
        {"from": "root@*.local", "to": OPS},
        {"from": "root@corp.example", "to": "cron@corp.example"},
        {"from": "@bücher.example", "to": "@example.com"},
    ],
    "routes": [{"name": "ops", "from": [OPS], "via": ["smtp.example.net"]}],
}


def test_the_sender_is_rewritten_and_the_old_one_seen() -> None:
    """The envelope holds the new one and remembers what the client said."""
    bench = Bench(CONFIG)
    bench.begin(b"MAIL FROM:<Root@web1.local>")
    assert bench.send(b"Subject: x\r\n\r\n.\r\n")[0].startswith("250 2.0.0")
    (_, envelope, _, _) = bench.events.receipts[0]
    assert (envelope.sender, envelope.original) == (OPS, "Root@web1.local")
    assert bench.queue.accepted[0].message.sender == OPS


def test_routes_see_the_new_sender() -> None:
    """The lane is chosen by it."""
    asked = []

    class Routes:
        def lane(self, sender: str, recipient: str) -> str:
            asked.append(sender)
            return "route:ops"

    bench = Bench(CONFIG)
    bench.service.table = Routes()
    bench.begin(b"MAIL FROM:<root@web1.local>")
    assert asked == [OPS]


@pytest.mark.parametrize(
    ("said", "sender", "original"),
    [
        (b"<>", "", ""),
        (b"<a@b.example>", "a@b.example", ""),
        (b"root", "cron@corp.example", "root@corp.example"),
        (b"<ops>", "ops@corp.example", ""),
    ],
)
def test_completed_first_then_rewritten(said: bytes, sender: str, original: str) -> None:
    """An address without a domain gets `origin`; a rule for that address fits."""
    bench = Bench(CONFIG)
    bench.begin(b"MAIL FROM:" + said)
    bench.send(b".\r\n")
    (_, envelope, _, _) = bench.events.receipts[0]
    assert (envelope.sender, envelope.original) == (sender, original)


def test_a_refusal_names_what_the_client_said() -> None:
    """In the log of a refused recipient."""
    bench = Bench(CONFIG)
    bench.send(b"EHLO c\r\nMAIL FROM:<root@web1.local>\r\nRCPT TO:<a@b@c>\r\n")
    assert [sender for *_, sender, _ in bench.events.rejections] == ["root@web1.local"]


@pytest.mark.parametrize(("local", "needed"), [("a", False), ("jörg", True)])
def test_utf8_is_needed_only_for_the_new_sender(local: str, needed: bool) -> None:
    """A non-ASCII domain that was replaced asks nothing of the next hop."""
    bench = Bench(CONFIG)
    bench.begin(f"MAIL FROM:<{local}@bücher.example> SMTPUTF8".encode())
    bench.send(b"Subject: x\r\n\r\n.\r\n")
    (_, envelope, _, _) = bench.events.receipts[0]
    assert (envelope.sender, envelope.smtputf8) == (f"{local}@example.com", needed)
