"""Connections to peers that go away, keep silent or talk nonsense, at every point, on both event loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.connected import WITHOUT_PIPELINING, connected, fate, send, short
from fakes.jobs import CONTENT, job
from fakes.loops import LOOPS, Run, running
from fakes.scripted_server import DROP, EXTENSIONS, RESET, STALL, Answer, Script

from relay.delivery.job import Kind
from relay.reply import Reply


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


WHEN = {  # occasion -> (stage, may another host be tried)
    "MAIL": ("mail", True),
    "RCPT": ("rcpt", True),
    "DATA": ("data", False),
    ".": ("dot", False),
}
HALF: Answer = (b"25", DROP)
HALF_LINES: Answer = (b"250-one\r\n250-two\r\n", DROP)


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelined", "stepwise"])
@pytest.mark.parametrize("answer", [DROP, RESET, HALF, HALF_LINES], ids=["EOF", "RST", "half", "half lines"])
@pytest.mark.parametrize("occasion", WHEN)
def test_cut(run: Run, occasion: str, answer: Answer, extensions: tuple[str, ...]) -> None:
    """The peer goes away at every point: deferred, ambiguous after the dot, never twice done."""

    async def scenario() -> None:
        async with connected({occasion: answer}, extensions) as (_, connection):
            work = job()
            verdict = await send(connection, work)
            stage, elsewhere = WHEN[occasion]
            assert ("A" if stage == "dot" else "D", "4.4.2", stage) == fate(work)
            assert ([0] if elsewhere else []) == list(verdict.elsewhere)
            assert connection.closed and Kind.DONE is verdict.kind

    run(scenario())


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelined", "stepwise"])
@pytest.mark.parametrize("occasion", WHEN)
def test_421(run: Run, occasion: str, extensions: tuple[str, ...]) -> None:
    """421 at every point: as 4yz there, and the connection is closed, whether the peer closes it or not."""

    async def scenario() -> None:
        async with connected({occasion: "421 4.3.2 closing"}, extensions) as (server, connection):
            work = job()
            verdict = await send(connection, work)
            stage, elsewhere = WHEN[occasion]
            assert ("D", "4.3.2", stage) == fate(work)
            assert ([0] if elsewhere else []) == list(verdict.elsewhere)
            assert connection.closed
            await server.conversations[0].ended.wait()

    run(scenario())


@pytest.mark.parametrize("occasion", WHEN)
@pytest.mark.parametrize("answer", [STALL, (b"250-never ", STALL)], ids=["silent", "half a line"])
def test_timeout(run: Run, occasion: str, answer: Answer) -> None:
    """Each phase has its time; after the dot a time-out is ambiguous."""

    async def scenario() -> None:
        stage = WHEN[occasion][0]
        async with connected({occasion: answer}, WITHOUT_PIPELINING, short(stage)) as (_, connection):
            work = job()
            await send(connection, work)
            assert ("A" if stage == "dot" else "D", "4.4.2", stage) == fate(work)
            assert "took too long" in work.results[0].reply.text
            assert connection.closed

    run(scenario())


NONSENSE: dict[str, Answer] = {
    "no reply": b"hello there\r\n",
    "100": "100 continue",
    "199": "199 hm",
    "600": "600 hm",
    "wrong class": b"354 go ahead\r\n",
    "two codes": b"250-a\r\n550 b\r\n",
    "endless line": b"250 " + b"x" * 5000,
    "endless reply": b"250-x\r\n" * 500,
    "binary": bytes(range(256)) + b"\r\n",
}


@pytest.mark.parametrize("occasion", WHEN)
@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense(run: Run, occasion: str, name: str) -> None:
    """A code outside 2-5 or in the wrong place, over-long, not a reply: as 4yz there, and closed."""

    async def scenario() -> None:
        answer = b"250 ok\r\n" if (name, occasion) == ("wrong class", "DATA") else NONSENSE[name]
        async with connected({occasion: answer}) as (server, connection):
            work = job()
            verdict = await send(connection, work)
            stage, elsewhere = WHEN[occasion]
            assert ("A" if stage == "dot" else "D", "4.5.0", stage) == fate(work)
            assert ([0] if elsewhere else []) == list(verdict.elsewhere)
            assert connection.closed
            assert server.conversations[0].contents == [] or stage == "dot"

    run(scenario())


def test_hostile_text(run: Run) -> None:
    """A refusal full of control characters is a refusal with harmless text."""

    async def scenario() -> None:
        async with connected({"RCPT": b"550-5.1.1 \x1b[2Jno\r\n550 5.1.1 \x00such \x07user \xff\r\n"}) as (
            _,
            connection,
        ):
            work = job()
            await send(connection, work)
            assert Reply(550, "5.1.1", "[2Jno\nsuch user \ufffd") == work.results[0].reply

    run(scenario())


@pytest.mark.parametrize(
    ("script", "stage"),
    [
        ({"DATA": b"354 go\r\n250 queued\r\n"}, "data"),  # the 250 was said before the content
        ({"MAIL": b"250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n"}, "data"),
    ],
)
def test_a_reply_before_its_time(run: Run, script: Script, stage: str) -> None:
    """250 for a content that was not sent yet is worth nothing: deferred, closed, no content is sent."""

    async def scenario() -> None:
        async with connected(script) as (server, connection):
            work = job()
            await send(connection, work)
            assert ("D", "4.5.0", stage) == fate(work)
            await server.conversations[0].ended.wait()
            assert server.contents == []
            assert CONTENT not in server.conversations[0].octets

    run(scenario())


def test_talk_after_the_end(run: Run) -> None:
    """More than was asked for behind the last reply: the delivery stands, the connection ends."""

    async def scenario() -> None:
        async with connected({".": b"250 2.0.0 ok\r\n421 and bye\r\n"}) as (_, connection):
            work = job()
            await send(connection, work)
            assert fate(work)[0] == "d"
            assert connection.closed

    run(scenario())


def test_early_refusal_of_small_content(run: Run) -> None:
    """552 in place of 354 is one of DATA; the connection lives on."""

    async def scenario() -> None:
        async with connected({"DATA": "552 5.3.4 too big"}) as (_, connection):
            work = job()
            await send(connection, work)
            assert fate(work) == ("F", "5.3.4", "data")
            assert connection.idle

    run(scenario())
