"""STARTTLS and implicit TLS with real handshakes, on both event loops."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator

import pytest
from fakes.certificates import authority
from fakes.loops import LOOPS, Run, running
from fakes.secure_front import NAME, Wire, secure_front, until

from relay.front.authenticator import Authenticator
from relay.observe.events import Events
from relay.users.listing import parse_listing
from relay.users.password import Cost, make_hash

KINDS = ("starttls", "implicit")


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


@pytest.mark.parametrize("tls", KINDS)
def test_a_message_over_tls(run: Run, tls: str) -> None:
    """Accepted, and said to be encrypted in the Received header (RFC 3848); counted by version and kind."""

    async def scenario() -> None:
        async with secure_front(tls) as front:
            client = await front.secure_client()
            assert (await client.deliver())[:13] == "250 2.0.0 que"
            assert await client.say("QUIT") == "221 2.0.0 goodbye"
            assert await client.closed() == b""
            stored = front.queue.accepted[0].content.data
            begin = (
                b"Received: from client.example ([127.0.0.1])\r\n\t(using TLSv1.3)\r\n\tby relay.example.com"
            )
            assert stored.startswith(begin) and b" with ESMTPS id " in stored
            assert front.events.receipts[0][1].protocol == "ESMTPS"
            assert front.events.secured == [(tls, "TLSv1.3")]

    run(scenario())


def test_utf8(run: Run) -> None:
    """RFC 6531 section 4.3: UTF8SMTPS."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.secure_client()
            await client.say("EHLO c", "MAIL FROM:<a@b.example> SMTPUTF8", "RCPT TO:<x@y.example>", "DATA")
            client.send(b".\r\n")
            await client.reply()
            assert front.events.receipts[0][1].protocol == "UTF8SMTPS"

    run(scenario())


async def extensions(client: Wire) -> set[str]:
    client.send(b"EHLO client.example\r\nNOOP\r\n")
    text = b""
    while b"\r\n250 2.0.0 ok\r\n" not in text:
        text += await client.read()
    return {line[4:] for line in text.decode().split("\r\n") if line}


def test_starttls_is_offered_in_clear_only(run: Run) -> None:
    """RFC 3207 section 4.2; the rest of EHLO's answer is the same."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.client()
            await client.reply()
            clear = await extensions(client)
            assert "STARTTLS" in clear
            await client.say("STARTTLS")
            await client.handshake()
            assert await extensions(client) == clear - {"STARTTLS"}
        async with secure_front("implicit") as front:
            assert "STARTTLS" not in await extensions(await front.secure_client())

    run(scenario())


def test_starttls_said_wrongly(run: Run) -> None:
    """With an argument 501, twice 503, where there is no TLS 502; the session goes on."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.client()
            await client.reply()
            assert (await client.say("STARTTLS now"))[:9] == "501 5.5.4"
            assert await client.say("starttls") == "220 2.0.0 begin TLS"
            await client.handshake()
            assert (await client.say("STARTTLS"))[:9] == "503 5.5.1"
            assert (await client.deliver())[:3] == "250"
        async with secure_front("implicit") as front:
            assert (await (await front.secure_client()).say("STARTTLS"))[:9] == "503 5.5.1"
        async with secure_front("off") as front:
            client = await front.client()
            await client.reply()
            assert (await client.say("STARTTLS"))[:9] == "502 5.5.1"

    run(scenario())


def test_what_was_said_in_clear_is_forgotten(run: Run) -> None:
    """RFC 3207 section 4.2: no EHLO, no MAIL; they must be said again."""

    async def scenario() -> None:
        async with secure_front() as front:
            client = await front.client()
            await client.reply()
            assert (
                await client.say("EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>", "STARTTLS")
            )[:3] == "220"
            await client.handshake()
            assert await client.say("DATA") == "503 5.5.1 MAIL first"
            assert await client.say("MAIL FROM:<a@b.example>") == "503 5.5.1 EHLO first"

    run(scenario())


def test_a_login_in_clear_does_not_count_inside(run: Run) -> None:
    """RFC 3207 section 4.2: whoever was on the way may have made it. The client logs in again."""

    async def scenario() -> None:
        authenticator = Authenticator(Events())
        authenticator.learn(parse_listing(f"anna:{make_hash('geheim', bytes(16), Cost(ln=10)).line}"))
        login = "AUTH PLAIN " + base64.b64encode(b"\0anna\0geheim").decode()
        mail = ("EHLO c", "MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>")
        async with secure_front(config={"trusted_networks": []}, authenticator=authenticator) as front:
            client = await front.client()
            await client.reply()
            await client.say("EHLO c")
            assert (await client.say(login))[:3] == "235"
            assert (await client.say(*mail, "RSET", "STARTTLS"))[:3] == "220"
            await client.handshake()
            assert (await client.say(*mail))[:9] == "550 5.7.1"
            await client.say("RSET")
            assert (await client.say(login))[:3] == "235"
            assert (await client.say(*mail[1:]))[:3] == "250"
        authenticator.close()

    run(scenario())


@pytest.mark.parametrize("split", [False, True], ids=["one packet", "two packets"])
def test_injection(run: Run, split: bool) -> None:
    """CVE-2011-0411: what was sent in clear behind STARTTLS is never executed, before or after a
    handshake."""

    async def scenario() -> None:
        injected = b"RSET\r\nMAIL FROM:<evil@b.example>\r\n"
        async with secure_front() as front:
            client = await front.client()
            await client.reply()
            if split:
                assert await client.say("STARTTLS") == "220 2.0.0 begin TLS"
                client.send(injected)
                assert await client.closed() == b""
                await until(lambda: front.events.secured)
                assert front.events.secured[0][0] == "starttls" and "version" in front.events.secured[0][1]
            else:
                client.send(b"STARTTLS\r\n" + injected)
                assert (await client.closed()).startswith(b"554 5.5.1 ")
                assert front.events.secured == []
            assert [verb for verb, _ in front.events.commands] == ["STARTTLS"]

    run(scenario())


@pytest.mark.parametrize("tls", KINDS)
@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"EHLO client.example\r\n", "wrong version number"),
        (b"GET / HTTP/1.0\r\n\r\n", "http request"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + bytes(600), ""),
        (b"", "connection closed"),
        (b"\x16\x03\x01", "connection closed"),
    ],
    ids=["SMTP", "HTTP", "garbage", "nothing", "half a record"],
)
def test_no_handshake(run: Run, tls: str, octets: bytes, why: str) -> None:
    """Something else than TLS, or the end: closed, one line, no session is left behind."""

    async def scenario() -> None:
        async with secure_front(tls) as front:
            client = await front.client()
            if tls == "starttls":
                await client.reply()
                await client.say("STARTTLS")
            client.send(octets)
            if why == "connection closed":
                await client.writer.drain()
                client.writer.write_eof()
            assert b"220" not in await client.closed()
            await until(lambda: front.events.closed and front.events.secured)
            assert len(front.events.secured) == 1 and not len(front.admission)
            kind, told = front.events.secured[0]
            assert kind == tls and why in told

    run(scenario())


@pytest.mark.parametrize("tls", KINDS)
def test_a_handshake_that_stalls(run: Run, tls: str) -> None:
    """Over the time for a handshake the connection is closed."""

    async def scenario() -> None:
        async with secure_front(tls, handshake_time=0.1) as front:
            client = await front.client()
            if tls == "starttls":
                await client.reply()
                await client.say("STARTTLS")
            client.send(b"\x16\x03\x01")
            await client.closed()
            await until(lambda: front.events.closed and front.events.secured)
            assert front.events.secured == [(tls, "time-out")]

    run(scenario())


def test_a_reset_in_the_handshake(run: Run) -> None:
    """Released once."""

    async def scenario() -> None:
        async with secure_front("implicit") as front:
            client = await front.client()
            await until(lambda: front.events.opened)
            client.writer.transport.abort()
            await until(lambda: front.events.closed)
            await until(lambda: front.events.secured)
            assert front.events.closed == 1 and not len(front.admission)

    run(scenario())


def test_old_tls_is_refused(run: Run) -> None:
    """TLS 1.1 gets no session; TLS 1.2 does."""

    async def scenario() -> None:
        async with secure_front("implicit") as front:
            client = await front.client()
            old = authority().client()
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning):
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises((EOFError, ssl.SSLError, ConnectionError)):
                await client.handshake(old)
            await until(lambda: front.events.secured)
            assert front.events.secured == [("implicit", "unsupported protocol")]
            client = await front.client()
            older = authority().client()
            older.maximum_version = ssl.TLSVersion.TLSv1_2
            session = await client.handshake(older)
            assert session.version() == "TLSv1.2" and session.compression() is None
            assert (await client.reply())[:3] == "220"
            assert session.session is not None and not session.session.has_ticket

    run(scenario())


def test_no_tickets(run: Run) -> None:
    """TLS 1.3: none has come with the first octets of the session."""

    async def scenario() -> None:
        async with secure_front("implicit") as front:
            client = await front.client()
            session = await client.handshake()
            assert (await client.reply())[:3] == "220"
            assert session.version() == "TLSv1.3"
            assert session.session is None or not session.session.has_ticket

    run(scenario())


def test_a_certificate_is_taken_at_the_handshake(run: Run) -> None:
    """A swap is for the next handshake; sessions that are open go on."""

    async def scenario() -> None:
        first, second = authority().issue(NAME, days=10), authority().issue(NAME, days=20)
        async with secure_front("implicit", pair=first) as front:
            old = await front.secure_client()
            front.show(second)
            new = await front.secure_client()
            shown = [ends(each) for each in (old, new)]
            assert shown == [first.ends, second.ends]
            assert (await old.deliver())[:3] == (await new.deliver())[:3] == "250"

    run(scenario())


def ends(client: Wire) -> float:
    assert client.tls is not None
    found = client.tls.getpeercert()
    assert found
    return ssl.cert_time_to_seconds(str(found["notAfter"]))


def test_limits_come_before_the_handshake(run: Run) -> None:
    """One session too many is refused: in clear with a reply, under implicit TLS without a word."""

    async def scenario() -> None:
        for tls, said in (("starttls", b"421 4.7.0 "), ("implicit", b"")):
            async with secure_front(tls, sessions_per_client=1) as front:
                client = await front.secure_client()
                other = await front.client()
                assert (await other.closed())[:10] == said
                assert front.events.refusals == ["sessions_per_client"]
                await client.say("QUIT")
                await client.closed()
                await until(lambda: not len(front.admission))
                assert (await (await front.secure_client()).deliver())[:3] == "250"

    run(scenario())
