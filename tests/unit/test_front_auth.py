"""AUTH on the session: what is answered at once, what waits, what a login is good for, what never shows.

The conversations are tests/dialogs/auth_*.txt.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from fakes.front import Bench, FakeTransport, RecordingEvents, make_service
from fakes.memory_queue import MemoryQueue

from relay.front import states, throttle
from relay.front.admission import Admission
from relay.front.auth import FAILURES
from relay.front.authenticator import Authenticator, Verdict
from relay.front.channel import Channel, ready
from relay.front.session import Session
from relay.front.throttle import LIMIT
from relay.observe.events import Events
from relay.observe.log import Log
from relay.users.listing import Listing, parse_listing
from relay.users.password import Cost, make_hash

LINE = make_hash("geheim", bytes(16), Cost(ln=10)).line
LISTING = parse_listing(f"anna:{LINE}\nbert:{LINE}:@b.example")


def plain(name: str, password: str) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode()) + b"\r\n"


class ScriptedAuthenticator(Authenticator):
    """check() waits until the test says what became of it."""

    def __init__(self) -> None:
        super().__init__(Events())
        self.learn(LISTING)
        self.asked: list[tuple[str, str, str]] = []
        self.verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    async def check(self, address: str, name: str, password: str) -> Verdict:
        self.asked.append((address, name, password))
        return await asyncio.shield(self.verdict)


class Talk:
    """A session over a fake transport in the real loop."""

    def __init__(self, authenticator: Authenticator, **keys: Any) -> None:
        self.events = RecordingEvents()
        self.queue = MemoryQueue()
        service = make_service(
            {"trusted_networks": []},
            self.queue,
            self.events,
            keys={"auth": "optional", "auth_over": "clear", **keys},
            authenticator=authenticator,
        )
        loop = asyncio.get_running_loop()
        self.transport = FakeTransport("192.0.2.7")
        admission: Admission[Channel] = Admission(10, 10)
        self.session = ready(Session, "relay.example.com", loop)(service, admission, loop)
        self.transport.session = self.session
        self.session.connection_made(cast(asyncio.Transport, self.transport))
        self.send(b"EHLO c\r\n")

    def send(self, data: bytes) -> list[str]:
        if self.transport.session is not None:
            self.session.data_received(data)
        return self.transport.take()

    async def answered(self) -> list[str]:
        """The reply that a check brings."""
        for _ in range(5000):
            if self.transport.writes:
                return self.transport.take()
            await asyncio.sleep(0.002)
        raise AssertionError("no reply")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are answered soon."""
    monkeypatch.setattr(throttle, "FIRST_DELAY", 0.001)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedAuthenticator]:
    authenticator = ScriptedAuthenticator()
    yield authenticator
    authenticator.close()


@pytest.fixture
async def real() -> AsyncIterator[Authenticator]:
    authenticator = Authenticator(Events())
    authenticator.learn(LISTING)
    yield authenticator
    authenticator.close()


async def test_a_remembered_login_is_answered_at_once(real: Authenticator) -> None:
    """In the very call that brought it, with what is pipelined behind it: no task, no thread, no turn of the
    loop."""
    await real.check("192.0.2.9", "anna", "geheim")
    talk = Talk(real)
    before = asyncio.all_tasks()
    replies = talk.send(plain("anna", "geheim") + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n")
    assert [reply[:9] for reply in replies] == ["235 2.7.0", "250 2.1.0", "250 2.1.5"]
    assert asyncio.all_tasks() == before
    assert talk.events.logins == [("PLAIN", "cached", "anna")]


async def test_what_is_pipelined_waits_for_the_check(scripted: ScriptedAuthenticator) -> None:
    """And is answered behind it."""
    talk = Talk(scripted)
    assert talk.send(plain("anna", "geheim") + b"MAIL FROM:<a@b.example>\r\n") == []
    assert talk.send(b"NOOP\r\n") == []
    scripted.verdict.set_result(Verdict("ok", LISTING.users["anna"]))
    assert [reply[:3] for reply in await talk.answered()] == ["235", "250", "250"]
    assert scripted.asked == [("192.0.2.7", "anna", "geheim")]


async def test_a_failure_is_answered_later(scripted: ScriptedAuthenticator) -> None:
    """By the delay of the verdict; a client that leaves meanwhile leaves nothing behind."""
    loop = asyncio.get_running_loop()
    scripted.verdict.set_result(Verdict("failed", None, 0.2))
    talk, gone = Talk(scripted), Talk(scripted)
    begun = loop.time()
    for each in (talk, gone):
        assert each.send(plain("anna", "falsch")) == []
    await asyncio.sleep(0)
    gone.transport.lose()
    assert (await talk.answered())[0].startswith("535 5.7.8 ")
    assert loop.time() - begun >= 0.19
    assert gone.session.task is None or gone.session.task.done()
    assert gone.transport.take() == []


async def test_a_stopping_relay_does_not_wait_for_logins(scripted: ScriptedAuthenticator) -> None:
    """Neither for a check nor for the delay of a failure: guessers would hold up every restart."""
    checked, failed = Talk(scripted), Talk(scripted)
    checked.send(plain("anna", "geheim"))
    checked.session.stop()
    assert [line[:9] for line in checked.transport.take()] == ["421 4.3.2"]
    scripted.verdict.set_result(Verdict("failed", None, 60.0))
    failed.send(plain("anna", "falsch"))
    for _ in range(5):
        await asyncio.sleep(0)
    task = failed.session.task
    failed.session.stop()
    assert [line[:9] for line in failed.transport.take()] == ["421 4.3.2"]
    assert task is not None
    await asyncio.wait([task], timeout=5)
    assert task.cancelled() and failed.transport.closed and failed.transport.take() == []


@pytest.mark.usefixtures("quick")
async def test_three_failures_end_the_connection(real: Authenticator) -> None:
    """The reply is the same each time; a success between does not forgive."""
    talk = Talk(real)
    for number in range(FAILURES):
        talk.send(plain("nobody" if number % 2 else "anna", "falsch"))
        replies = await talk.answered()
        assert replies[0] == "535 5.7.8 user name or password wrong"
    assert [reply[:9] for reply in replies[1:]] == ["421 4.7.0"]
    assert talk.transport.closed


@pytest.mark.parametrize(
    ("result", "reply", "closed"),
    [("blocked", "421 4.7.0", True), ("busy", "454 4.7.0", False), ("error", "454 4.7.0", False)],
)
async def test_what_is_not_checked_is_temporary(
    scripted: ScriptedAuthenticator, result: str, reply: str, closed: bool
) -> None:
    """4xx, counted by its result."""
    scripted.verdict.set_result(Verdict(result))
    talk = Talk(scripted)
    talk.send(plain("anna", "geheim"))
    assert [line[:9] for line in await talk.answered()] == [reply]
    assert talk.transport.closed is closed
    assert talk.events.logins == [("PLAIN", result, "anna")]


async def test_a_bug_in_the_check_is_ours(scripted: ScriptedAuthenticator) -> None:
    """451 and one event; the session goes on."""
    scripted.verdict.set_exception(RuntimeError("oops"))
    talk = Talk(scripted)
    talk.send(plain("anna", "geheim"))
    assert [line[:9] for line in await talk.answered()] == ["451 4.3.0"]
    assert len(talk.events.bugs) == 1
    assert talk.send(b"NOOP\r\n") == ["250 2.0.0 ok"]


async def test_a_changed_user_is_out_of_an_open_session(real: Authenticator) -> None:
    """At the next MAIL; new senders of an unchanged password hold at once."""
    talk = Talk(real)
    talk.send(plain("anna", "geheim"))
    await talk.answered()
    real.learn(parse_listing(f"anna:{LINE}:@b.example"))
    assert talk.send(b"MAIL FROM:<a@c.example>\r\n")[0].startswith("553 5.7.1 anna may not send as")
    assert talk.send(b"MAIL FROM:<a@b.example>\r\nRSET\r\n")[0].startswith("250")
    real.learn(Listing())
    assert talk.send(b"MAIL FROM:<a@b.example>\r\n")[0].startswith("421 4.7.0 ")
    assert talk.transport.closed
    assert [reason for _, _, reason, _, _ in talk.events.rejections] == ["sender", "auth"]


async def test_the_login_goes_with_the_mail(real: Authenticator) -> None:
    """Envelope, trace header (RFC 3848), event."""
    talk = Talk(real, auth="required")
    talk.send(plain("bert", "geheim"))
    await talk.answered()
    talk.session.secure = "TLSv1.3"
    talk.send(b"MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<x@y.example>\r\nDATA\r\nx: y\r\n\r\n.\r\n")
    talk.session.secure = ""
    talk.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\nx: y\r\n\r\n.\r\n")
    envelopes = [envelope for _, envelope, _, _ in talk.events.receipts]
    assert [(each.login, each.protocol) for each in envelopes] == [("bert", "UTF8SMTPSA"), ("bert", "ESMTPA")]
    assert b"with ESMTPA id" in talk.queue.accepted[-1].content.data


async def test_auth_is_offered_where_it_may_be_used(real: Authenticator) -> None:
    """Over TLS always, in clear only where that was asked for."""
    for over, secure, offered in (("tls", "", False), ("tls", "TLSv1.3", True), ("clear", "", True)):
        talk = Talk(real, auth_over=over)
        talk.session.secure = secure
        assert ("250 AUTH PLAIN LOGIN" in talk.send(b"EHLO c\r\n")) is offered
        code = talk.send(b"AUTH LOGIN\r\n")[0][:3]
        assert code == ("334" if offered else "538")


def test_a_session_in_an_exchange_has_the_time_of_a_command() -> None:
    """Silence in an exchange ends like any other."""
    bench = Bench()
    bench.session.exchange = cast(Any, object())
    bench.loop.advance(400)
    assert [line[:9] for line in bench.transport.take()] == ["421 4.4.2"]


async def test_a_check_counts_against_the_session_s_time(scripted: ScriptedAuthenticator) -> None:
    """A client cannot stay for ever behind a check that does not end."""
    talk = Talk(scripted)
    talk.send(plain("anna", "geheim"))
    await asyncio.sleep(0)
    assert talk.session.state is states.BUSY
    talk.session.deadline.at = 0.0
    talk.session._tick()
    assert [line[:9] for line in talk.transport.take()] == ["421 4.4.2"]
    for _ in range(3):
        await asyncio.sleep(0)
    assert talk.session.task is None or talk.session.task.cancelled()


FAIL2BAN = (  # prefix and failregex of fail2ban's filter.d/postfix.conf, mode auth
    r"^\S+ \d+ [\d:]+ \S+ \S+/smtpd\[\d+\]: warning: [^[]*\[(?P<host>[\d.:a-f]+)\](?::\d+)?: "
    r"SASL ((?i:LOGIN|PLAIN|(?:CRAM|DIGEST)-MD5)) authentication failed:"
    r"(?! Connection lost to authentication server| Invalid authentication mechanism)"
)


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.usefixtures("quick")
async def test_logs_name_the_client_and_no_secret(tmp_path: Path, style: str) -> None:
    """What reads Postfix's log reads ours; the password is nowhere, whatever becomes of it, nor is its
    base64; a name cannot write a line of its own."""
    file = tmp_path / "log"
    with file.open("wb") as output:
        events = Events(Log(output.fileno(), style=style, level="debug"))
        authenticator = Authenticator(events)
        authenticator.learn(LISTING)
        talk = Talk(authenticator)
        talk.session.service.events = events
        words = ["hunter2-wrong", "geheim"]
        evil = "x\r\nNov 1 00:00:00 h relay/smtpd[1]: warning: unknown[192.0.2.99]"
        for line in (plain("anna", words[0]), plain(evil, words[0])):
            talk.send(line)
            await talk.answered()
        again = Talk(authenticator)
        again.session.service.events = events
        again.send(b"AUTH LOGIN\r\n" + base64.b64encode(b"anna") + b"\r\n" + b"hunter2!!\r\n")
        again.send(b"AUTH PLAIN " + base64.b64encode(b"anna\0hunter2-wrong") + b"\r\n")
        again.send(plain("anna", words[1]))
        await again.answered()
        events.log.flush()
        authenticator.close()
        events.log.close()
    text = file.read_text()
    lines = [plain("anna", word)[11:-2].decode() for word in words]
    for secret in (*words, *lines, "hunter2", LINE):
        assert secret not in text
    if style == "text":
        hosts = [found["host"] for line in text.splitlines() if (found := re.search(FAIL2BAN, line))]
        assert hosts == ["192.0.2.7"] * 4
        assert "sasl_username=anna" in text


@pytest.mark.usefixtures("quick")
async def test_a_guesser_is_shut_out_over_connections(real: Authenticator) -> None:
    """Each connection has few tries, an address few in a while; then 421 without a look at the password."""
    talk = Talk(real)
    talk.send(plain("anna", "falsch"))
    assert (await talk.answered())[0].startswith("535")
    for _ in range(LIMIT):
        real.throttle.failed("192.0.2.7", "anna", time.monotonic())
    other = Talk(real)
    other.send(plain("anna", "geheim"))
    assert [line[:9] for line in await other.answered()] == ["421 4.7.0"]
