"""The demonstration's parts: its verdict is strict, its next hops do what they say, its views tell."""

from __future__ import annotations

import io
import re
import smtplib
from asyncio import to_thread
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from relay.demo.cast import BOUNCE, CAST, SENDER
from relay.demo.ending import bounce_words, complaints
from relay.demo.hints import hints, relay_command
from relay.demo.scene import configure, records
from relay.demo.sinks import Mail, Sink
from relay.demo.tale import Fate, Tale
from relay.demo.view import Clock, Lines, Screen, show_bounce
from relay.envelope import Envelope
from relay.observe.log import Log
from relay.observe.metrics import Metrics
from relay.outcome import Deferred, Delivered, Failed
from relay.reply import Reply

ADA, BEN, CLEO, DAN = CAST
REPORT = b"""\
Content-Type: multipart/report; boundary=b\r
\r
--b\r
Content-Type: text/plain; charset=utf-8\r
\r
Sorry.\r
--b\r
Content-Type: message/delivery-status\r
\r
Final-Recipient: rfc822; cleo@strict.example\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 No such user here\r
--b--\r
"""


def happy() -> tuple[dict[str, Fate], dict[str, Sink]]:
    """Everything as it shall be."""
    letters = (*CAST, BOUNCE)
    fates = {each.recipient: Fate(each, "id", each.fate, each.tries, "250 Ok") for each in letters}
    sinks = {each.recipient: Sink(each) for each in letters}
    for letter in (ADA, BEN, DAN):
        content = b"Received: from x\r\n\tby y\r\n" + letter.content
        sinks[letter.recipient].inbox.append(Mail(SENDER, [letter.recipient], content))
    sinks[SENDER].inbox.append(Mail("", [SENDER], REPORT))
    return fates, sinks


def test_the_happy_end_has_no_complaint() -> None:
    """Every fate, every byte and the bounce as expected."""
    fates, sinks = happy()
    assert complaints(fates.values(), sinks) == []


Spoil = Callable[[dict[str, Fate], dict[str, Sink]], None]


def set_fate(letter_recipient: str, **changes: object) -> Spoil:
    def spoil(fates: dict[str, Fate], sinks: dict[str, Sink]) -> None:
        for name, value in changes.items():
            setattr(fates[letter_recipient], name, value)

    return spoil


def set_mail(recipient: str, change: Callable[[Mail], list[Mail]]) -> Spoil:
    def spoil(fates: dict[str, Fate], sinks: dict[str, Sink]) -> None:
        sinks[recipient].inbox[:] = [new for mail in sinks[recipient].inbox for new in change(mail)]

    return spoil


SPOILED: dict[str, tuple[Spoil, str]] = {
    "too few tries": (set_fate(BEN.recipient, tries=2), "delivered at try 3, but is delivered after 2"),
    "bounced": (set_fate(ADA.recipient, state="bounced"), "but is bounced after 1"),
    "never accepted": (set_fate(DAN.recipient, state="", tries=0), "but is not accepted after 0"),
    "still waiting": (set_fate(CLEO.recipient, state="deferred"), "expected to be bounced at try 1"),
    "a second copy": (set_mail(ADA.recipient, lambda mail: [mail, mail]), "got 2 messages instead of 1"),
    "lost": (set_mail(ADA.recipient, lambda mail: []), "got 0 messages instead of 1"),
    "a byte changed": (
        set_mail(BEN.recipient, lambda mail: [mail._replace(content=mail.content.replace(b"..", b"."))]),
        "what arrived is not what was sent",
    ),
    "no trace": (
        set_mail(BEN.recipient, lambda mail: [mail._replace(content=BEN.content)]),
        "what arrived is not what was sent",
    ),
    "another sender": (
        set_mail(DAN.recipient, lambda mail: [mail._replace(sender="x@orders.example")]),
        "arrived from x@orders.example",
    ),
    "no bounce": (set_mail(SENDER, lambda mail: []), "expected one bounce, got 0"),
    "a bounce with a sender": (
        set_mail(SENDER, lambda mail: [mail._replace(sender=SENDER)]),
        "not from the null sender",
    ),
    "a bounce about nothing": (
        set_mail(SENDER, lambda mail: [mail._replace(content=b"Subject: sorry\r\n\r\n")]),
        "does not say 'Action: failed'",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_every_wrong_end_is_seen(case: str) -> None:
    """What is not as expected makes exactly the right complaint."""
    spoil, expected = SPOILED[case]
    fates, sinks = happy()
    spoil(fates, sinks)
    assert expected in "\n".join(complaints(fates.values(), sinks))


def test_bounce_words_are_the_text_for_people() -> None:
    """The first text/plain part; nothing when there is no bounce."""
    assert bounce_words([Mail("", [SENDER], REPORT)]).strip() == "Sorry."
    assert bounce_words([]) == ""


async def test_a_next_hop_does_as_its_letter_says() -> None:
    """Ben's refuses twice and then accepts, again and again; Cleo's never accepts; bytes are kept as sent."""
    codes = {BEN.recipient: [451, 451, 250, 451], CLEO.recipient: [550, 550, 550, 550]}
    for letter in (BEN, CLEO):
        sink = Sink(letter)
        await sink.start()
        assert await to_thread(rcpt_codes, sink.port, letter.recipient) == codes[letter.recipient]
        await sink.stop()
    quick = Sink(ADA)
    await quick.start()
    await to_thread(hand_in, quick.port, ADA.recipient, ADA.content)
    await quick.stop()
    assert quick.inbox == [Mail(SENDER, [ADA.recipient], ADA.content)]


def rcpt_codes(port: int, recipient: str) -> list[int]:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo()
        client.mail(SENDER)
        return [client.rcpt(recipient)[0] for _ in range(4)]


def hand_in(port: int, recipient: str, content: bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail(SENDER, [recipient], content)


def test_the_embedded_configuration_is_good(tmp_path: Path) -> None:
    """It loads; every next hop has its route, one is found by MX, and all of them are in the DNS."""
    sinks = {letter.recipient: Sink(letter, 40000 + place) for place, letter in enumerate((*CAST, BOUNCE))}
    config = configure(tmp_path, "127.0.0.1:5353", sinks)
    assert config.mx.port == sinks[ADA.recipient].port
    assert {route.name for route in config.routes} == {"busy", "strict", "slow", "orders"}
    assert config.spool.is_relative_to(tmp_path)
    assert set(records()) == {f"host.{sink.letter.domain}" for sink in sinks.values()} | {ADA.domain}


def play(tale: Tale) -> None:
    """Ben's letter from the first word to the last; then one of somebody else's."""
    tale.received("abc", Envelope(SENDER, message_id=f"<demo.{BEN.recipient}>"), 10, 1)
    later = Deferred(Reply(451, "4.7.1", "later"), "host[127.0.0.1]:1", "rcpt")
    times = (0.0, 0.0, 0.0, 0.0)
    tale.attempted("abc", "busy", SENDER, [(BEN.recipient, later)], 0.1, times)
    tale.attempted("abc", "busy", SENDER, [(BEN.recipient, later)], 1.1, times)
    done = Delivered(Reply(250, "2.0.0", "Kept"), "host[127.0.0.1]:1")
    tale.attempted("abc", "busy", SENDER, [(BEN.recipient, done)], 3.1, times)
    gone = Failed(Reply(550, "5.1.1", "unknown"), "host[127.0.0.1]:2")
    tale.attempted("def", "strict", SENDER, [(CLEO.recipient, gone)], 0.1, times)
    tale.dsn("failed", "ghi", "def")
    tale.received("xyz", Envelope("somebody@else.example"), 10, 1)


def test_the_tale_follows_each_letter() -> None:
    """Events become fates and sentences; strangers' mail is told too; log and metrics go on."""
    told: list[str] = []
    tale = Tale(Log(), Metrics(["busy", "strict"]), lambda who, what: told.append(f"{who}: {what}"))
    play(tale)
    ben = tale.fates[BEN.recipient]
    assert (ben.name, ben.state, ben.tries, ben.reply, ben.expected) == (
        "abc", "delivered", 3, "250 2.0.0 Kept", True,
    )  # fmt: skip
    assert replace(tale.fates[CLEO.recipient], name="") == Fate(CLEO, "", "bounced", 1, "550 5.1.1 unknown")
    assert (tale.fates[SENDER].name, tale.fates[SENDER].state) == ("", "accepted")
    assert told[1] == "ben@busy.example: kept for another try: 451 4.7.1 later"
    assert told[-1] == "xyz: accepted from <somebody@else.example>, on disk"
    assert tale.metrics.deliveries.values["busy", "deferred"] == 2


def test_lines_and_screen_tell_the_same() -> None:
    """Elsewhere a line an event, and the depth only when it changed; on a terminal a table with the reply."""
    plain, terminal = Console(file=io.StringIO(), width=100), Console(
        file=io.StringIO(), width=160, force_terminal=True, force_interactive=True
    )  # fmt: skip
    lines = Lines(plain, Clock())
    tale = Tale(Log(), Metrics(["busy", "strict"]), lines.told)
    play(tale)
    for count in (1, 1, 0):
        lines.depth({"deferred": count})
    screen = Screen(terminal, Clock(), tale.fates.values())
    screen.open()
    screen.depth({"deferred": 7})
    screen.close()
    show_bounce(plain, "No [bold]such user\n")
    text = output(plain)
    assert "ben@busy.example" in text
    assert text.count("relay_queue_messages: 1 (1 deferred)") == 1
    assert "  | No [bold]such user" in text
    assert "\x1b" not in text
    assert "relay_queue_messages: 7 (7 deferred)" in output(terminal)
    assert "250 2.0.0 Kept" in output(terminal)


@pytest.mark.parametrize(("width", "named"), [(80, False), (99, False), (100, True), (120, True)])
def test_the_screen_fits_a_terminal(width: int, named: bool) -> None:
    """24 lines are enough with the programme above; nothing is cut; queue ids only where there is room."""
    console = Console(
        file=io.StringIO(), width=width, height=24, force_terminal=True, force_interactive=True, no_color=True
    )
    tale = Tale(Log(), Metrics(["busy", "strict"]), lambda who, what: None)
    screen = Screen(console, Clock(), tale.fates.values())
    play_all(tale, screen)
    screen.open()
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", output(console)).splitlines()
    screen.close()
    programme, cursor = 5, 1
    assert len(last) <= 24 - programme - cursor
    assert max(map(len, last)) <= width
    text = "\n".join(last)
    assert "…" not in text and "..." not in text
    for letter in (*CAST, BOUNCE):
        assert re.search(rf"^{letter.recipient} +{letter.hop} ", text, re.MULTILINE)
    assert text.count("550 5.1.1 No such user") == 2  # in its row, and in a sentence
    assert ("queue id" in text) == named


def play_all(tale: Tale, screen: Screen) -> None:
    """The longest that the table and the sentences can become."""
    tale.told = screen.told
    for letter in CAST:
        tale.received("1k0t9bc3grt", Envelope(SENDER, message_id=f"<demo.{letter.recipient}>"), 10, 1)
        for refusal in letter.refusals:
            reply = Reply(int(refusal[:3]), refusal.split()[1], refusal.split(" ", 2)[2])
            host, verdict = f"host.{letter.domain}[127.0.0.1]:40000", Failed if letter.stubborn else Deferred
            outcome = verdict(reply, host)
            tale.attempted(
                "1k0t9bc3grt", letter.route, SENDER, [(letter.recipient, outcome)], 0.1, (0.0, 0.0, 0.0, 0.0)
            )
    tale.dsn("failed", "1k0t9bc3grt", "1k0t9bc3grt")


def test_the_hints_fit_and_can_be_pasted(tmp_path: Path) -> None:
    """Below 80 columns, one next hop a line; the script beside the Python where there is one."""
    here = tmp_path / "here"
    python = here / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    plain = relay_command(python, here)
    assert plain == ".venv/bin/python -m relay"
    directory = Path("/tmp/relay-demo-12345678")
    text = hints(plain, "127.0.0.1:40000", "127.0.0.1:40001", directory)
    assert max(map(len, text.splitlines())) < 80
    for letter in CAST:
        assert re.search(rf"^  {letter.domain} +{letter.hop}$", text, re.MULTILINE)
    python.with_name("relay").touch()
    assert relay_command(python, here) == ".venv/bin/relay"
    assert relay_command(python, tmp_path / "elsewhere") == str(python.with_name("relay"))


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
