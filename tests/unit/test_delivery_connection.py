"""Connections against a scripted server on loopback, on both event loops: every way a peer can be bad."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import CONTENT, job
from fakes.loops import LOOPS
from fakes.scripted_server import DROP, EXTENSIONS, RESET, STALL, Answer, Script, ScriptedServer, Step

from relay.delivery.connection import Connection
from relay.delivery.content_reader import BLOCK
from relay.delivery.job import Job, Kind, Verdict
from relay.delivery.opening import Opening, open_connection
from relay.delivery.timeouts import Timeouts
from relay.observe.events import Events
from relay.outcome import Delivered, Failed
from relay.reply import Reply
from relay.routing.target import Target

Scenario = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Coroutine[Any, Any, None]], None]
SHORT = Timeouts(mail=0.05, rcpt=0.05, data=0.05, block=0.05, dot=0.05, quit=0.05)
WITHOUT_PIPELINING = tuple(name for name in EXTENSIONS if name != "PIPELINING")


@dataclass(frozen=True)
class Policy:
    tls: Any = "opportunistic"


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine on one of the loops; whatever the loop's exception handler was told is an error."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        yield lambda scenario: runner.run(asyncio.wait_for(scenario, 20))
    assert complaints == []


@asynccontextmanager
async def connected(
    script: Script | None = None,
    extensions: tuple[str, ...] = EXTENSIONS,
    timeouts: Timeouts | None = None,
    **options: Any,
) -> AsyncIterator[tuple[ScriptedServer, Connection]]:
    """A server and a connection to it; the connection is closed at the end."""
    async with ScriptedServer(script, extensions, **options) as server:
        opening = Opening("relay.example.com", Events(), timeouts=timeouts or Timeouts())
        target = Target("mx.example.net", "127.0.0.1", server.port, options.get("implicit_tls", False))
        connection = await open_connection(target, Policy(), opening)
        try:
            yield server, connection
        finally:
            connection.abort()
            await connection.wait_closed()


async def send(connection: Connection, work: Job) -> Verdict:
    """Start a job and wait for its end; the connection is idle or closed when `done` is called."""
    loop = asyncio.get_running_loop()
    end: asyncio.Future[Verdict] = loop.create_future()

    def done(which: Connection, what: Job, verdict: Verdict) -> None:
        assert which is connection and what is work
        assert which.idle is not which.closed
        end.set_result(verdict)

    connection.start(work, done)
    assert not connection.idle
    return await end


def fate(work: Job, index: int = 0) -> tuple[str, str, str]:
    """(outcome, enhanced code, stage) of a recipient."""
    outcome = work.results[index]
    if isinstance(outcome, Delivered):
        return "d", outcome.reply.enhanced, ""
    letter = "F" if isinstance(outcome, Failed) else "A" if outcome.ambiguous else "D"
    return letter, outcome.reply.enhanced, outcome.stage


# --- the good case


def test_delivers_byte_for_byte(run: Run) -> None:
    """Commands in one write, content with its dot as it is; the outcome names the host."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            work = job("a@example.org", "b@example.org")
            verdict = await send(connection, work)
            host = f"mx.example.net[127.0.0.1]:{server.port}"
            assert Delivered(Reply(250, "2.0.0", "queued as 1"), host, True) == work.results[0]
            assert work.results[0] is work.results[1]
            assert server.contents == [CONTENT]
            talk = server.conversations[0]
            assert talk.chunks == [
                b"EHLO relay.example.com\r\n",
                b"MAIL FROM:<alice@example.com> SIZE=32\r\nRCPT TO:<a@example.org>\r\n"
                b"RCPT TO:<b@example.org>\r\nDATA\r\n",
                CONTENT + b".\r\n",
            ]
            assert Kind.DONE is verdict.kind
            assert verdict.envelope > 0 and verdict.final > 0 and verdict.data == 0
            assert connection.idle and connection.messages == 1

    run(scenario())


def test_without_pipelining(run: Run) -> None:
    """Each command waits for its reply."""

    async def scenario() -> None:
        async with connected(extensions=()) as (server, connection):
            work = job("a@example.org", "b@example.org")
            await send(connection, work)
            assert fate(work)[0] == "d"
            assert isinstance(work.results[1], Delivered) and not work.results[1].dsn_passed_on
            assert server.conversations[0].chunks == [
                b"EHLO relay.example.com\r\n",
                b"MAIL FROM:<alice@example.com>\r\n",
                b"RCPT TO:<a@example.org>\r\n",
                b"RCPT TO:<b@example.org>\r\n",
                b"DATA\r\n",
                CONTENT + b".\r\n",
            ]

    run(scenario())


@pytest.mark.parametrize(
    "content", [b"", b"..\r\n", b"\r\n", b"x" * 100_000 + b"\r\n", bytes(range(256)) + b"\r\n"]
)
def test_content_is_carried(run: Run, content: bytes) -> None:
    """Empty, only a dot, a long line, every octet there is."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            await send(connection, job(content=content))
            assert [content] == server.contents

    run(scenario())


def test_many_jobs_on_one_connection(run: Run) -> None:
    """start() from within done; no timer, task or state is left over from job to job."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = [job(content=b"%d\r\n" % number) for number in range(50)]
            tasks = len(asyncio.all_tasks())

            def done(which: Connection, work: Job, verdict: Verdict) -> None:
                assert fate(work)[0] == "d"
                assert tasks == len(asyncio.all_tasks())
                if waiting:
                    which.start(waiting.pop(0), done)
                else:
                    finished.set_result(None)

            connection.start(waiting.pop(0), done)
            await finished
            assert [b"%d\r\n" % number for number in range(50)] == server.contents
            assert connection.messages == 50

    run(scenario())


def test_jobs_that_end_at_once_do_not_recurse(run: Run) -> None:
    """Thousands of messages the peer has no capability for, each started from the end of the one before."""

    async def scenario() -> None:
        async with connected(extensions=("SIZE 10",)) as (_, connection):
            finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            left = 3000

            def done(which: Connection, work: Job, verdict: Verdict) -> None:
                nonlocal left
                left -= 1
                assert fate(work) == ("F", "5.3.4", "capability")
                if left:
                    which.start(job(), done)
                else:
                    finished.set_result(None)

            connection.start(job(), done)
            await finished
            assert connection.idle

    run(scenario())


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelined", "stepwise"])
def test_three_fates(run: Run, extensions: tuple[str, ...]) -> None:
    """250, 451 and 550 for three recipients of one message; then the connection serves the next."""

    async def scenario() -> None:
        script: Script = {"RCPT b@example.org": "451 4.2.1 later", "RCPT c@example.org": "550 5.1.1 unknown"}
        async with connected(script, extensions) as (server, connection):
            work = job("a@example.org", "b@example.org", "c@example.org")
            verdict = await send(connection, work)
            assert [fate(work, index) for index in range(3)] == [
                ("d", "2.0.0", ""),
                ("D", "4.2.1", "rcpt"),
                ("F", "5.1.1", "rcpt"),
            ]
            assert verdict.elsewhere == [1]
            await send(connection, job())
            assert len(server.contents) == 2 and len(server.conversations) == 1

    run(scenario())


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT_PIPELINING], ids=["pipelined", "stepwise"])
def test_all_refused_then_the_next(run: Run, extensions: tuple[str, ...]) -> None:
    """A transaction without recipients is cleared by RSET before the next one."""

    async def scenario() -> None:
        script: Script = {"RCPT#1": "550 5.1.1 unknown"}
        if extensions is EXTENSIONS:
            script = {"RCPT#1": "550 5.1.1 unknown", "DATA#1": "554 no valid recipients"}
        async with connected(script, extensions) as (server, connection):
            first, second = job(), job()
            await send(connection, first)
            assert fate(first) == ("F", "5.1.1", "rcpt")
            await send(connection, second)
            assert fate(second) == ("d", "2.0.0", "")
            commands = server.conversations[0].commands
            assert commands.count(b"RSET") == 1
            assert commands.index(b"RSET") < len(commands) - 3

    run(scenario())


def test_lone_dot(run: Run) -> None:
    """354 to DATA although everybody was refused: a lone dot, and the session goes on."""

    async def scenario() -> None:
        async with connected({"RCPT#1": "550 5.1.1 unknown"}) as (server, connection):
            first, second = job(), job()
            await send(connection, first)
            assert fate(first) == ("F", "5.1.1", "rcpt")
            await send(connection, second)
            assert fate(second) == ("d", "2.0.0", "")
            assert server.conversations[0].contents == [b"", CONTENT]

    run(scenario())


def test_the_rest_at_once(run: Run) -> None:
    """452 after two recipients: the others follow on the same connection, all delivered."""

    async def scenario() -> None:
        script: Script = {"RCPT#3": "452 4.5.3 too many", "RCPT#4": "452 4.5.3 too many"}
        async with connected(script) as (server, connection):
            work = job(*(f"r{number}@example.org" for number in range(4)))
            verdict = await send(connection, work)
            assert "".join(fate(work, index)[0] for index in range(4)) == "dddd"
            assert list(verdict.elsewhere) == []
            assert server.contents == [CONTENT, CONTENT]

    run(scenario())


# --- trouble

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
        async with connected({occasion: answer}, extensions) as (server, connection):
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
        async with connected({occasion: answer}, WITHOUT_PIPELINING, SHORT) as (server, connection):
            work = job()
            await send(connection, work)
            stage = WHEN[occasion][0]
            assert ("A" if stage == "dot" else "D", "4.4.2", stage) == fate(work)
            assert "took too long" in work.results[0].reply.text
            assert connection.closed

    run(scenario())


def test_a_slow_peer_is_not_cut(run: Run) -> None:
    """Every phase begins anew: a peer that needs half the time for each of many replies is served."""

    async def scenario() -> None:
        gate = asyncio.Event()
        script: Script = {"DATA": (gate, "354 go"), ".": (gate, "250 ok")}
        async with connected(script, timeouts=Timeouts(mail=0.1, rcpt=0.1, data=5, dot=5)) as (_, connection):
            work = job()
            asyncio.get_running_loop().call_later(0.2, gate.set)
            await send(connection, work)
            assert fate(work)[0] == "d"

    run(scenario())


def test_the_envelope_has_a_time_of_its_own(run: Run) -> None:
    """A hundred recipients, each answered just in time, do not add up to hours."""

    async def scenario() -> None:
        drip: list[Answer] = [*["250 ok"] * 5, STALL]
        timeouts = Timeouts(mail=10, rcpt=10, data=0.1, envelope=0.1)
        async with connected({"RCPT": drip}, timeouts=timeouts) as (_, connection):
            work = job(*(f"r{number}@example.org" for number in range(10)))
            await send(connection, work)
            assert fate(work) == ("D", "4.4.2", "rcpt")

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


# --- kept connections


@pytest.mark.parametrize("answer", [DROP, RESET, "421 4.4.2 idle too long"], ids=["EOF", "RST", "421"])
def test_a_kept_connection_was_dead(run: Run, answer: Answer) -> None:
    """The second transaction gets EOF, RST or 421 for its first reply: not an attempt."""

    async def scenario() -> None:
        async with connected({"MAIL#2": answer}) as (_, connection):
            await send(connection, job())
            work = job()
            verdict = await send(connection, work)
            assert Kind.FRESH is verdict.kind
            assert work.results == {}
            assert connection.closed

    run(scenario())


@pytest.mark.parametrize("answer", [DROP, RESET, "421 4.3.2 bye", b"2", b"250 hi\r\n"])
def test_an_idle_connection_ends(run: Run, answer: Step) -> None:
    """EOF, RST, 421 or any octet while nothing is asked: closed, and the lane is told once."""

    async def scenario() -> None:
        leave = asyncio.Event()
        async with connected({"DATA": "550 no", "RCPT": "550 no"}) as (server, connection):
            server.script["DATA"] = ("550 no", leave, answer)
            lost: list[Connection] = []
            told = asyncio.Event()

            def on_lost(which: Connection) -> None:
                lost.append(which)
                told.set()

            connection.on_lost = on_lost
            await send(connection, job())
            assert connection.idle
            leave.set()
            await told.wait()
            assert connection.closed and not connection.idle
            await connection.wait_closed()
            assert [connection] == lost
            with pytest.raises(RuntimeError, match="closed"):
                connection.start(job(), lambda *_: None)

    run(scenario())


def test_close_says_quit(run: Run) -> None:
    """QUIT goes out, on_lost is not called, the socket closes; a second close() is nothing."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            connection.on_lost = lambda which: pytest.fail("told about its own close")
            connection.close()
            connection.close()
            assert connection.closed
            await connection.wait_closed()
            await server.conversations[0].ended.wait()
            assert server.conversations[0].commands == [b"EHLO relay.example.com", b"QUIT"]

    run(scenario())


def test_close_does_not_wait_for_ever(run: Run) -> None:
    """A peer that does not answer QUIT is cut after a moment."""

    async def scenario() -> None:
        async with connected({"QUIT": STALL}, timeouts=SHORT) as (_, connection):
            connection.close()
            await asyncio.wait_for(connection.wait_closed(), 2)

    run(scenario())


def test_abort_of_a_job(run: Run) -> None:
    """done is called at once; past the dot the outcome is ambiguous, and past_dot says so before."""

    async def scenario() -> None:
        async with connected({".": STALL}) as (server, connection):
            work = job()
            end: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
            connection.start(work, lambda which, what, verdict: end.set_result(verdict))
            assert not connection.past_dot
            with pytest.raises(RuntimeError, match="busy"):
                connection.close()
            with pytest.raises(RuntimeError, match="busy"):
                connection.start(work, lambda *_: None)
            await server.reached(".")
            assert connection.past_dot
            connection.abort()
            assert end.done()
            assert fate(work) == ("A", "4.4.2", "dot")

    run(scenario())


# --- large content

LARGE = b"".join(b"%09d %s\r\n" % (number, b"x" * 90) for number in range(20_000))  # 2 MB


@pytest.mark.parametrize("extensions", [EXTENSIONS, (*EXTENSIONS, "STARTTLS")], ids=["plain", "TLS"])
def test_streams_a_file(run: Run, tmp_path: Path, extensions: tuple[str, ...]) -> None:
    """2 MB from a file, byte for byte, and the time it took."""

    async def scenario() -> None:
        async with connected(extensions=extensions) as (server, connection):
            work = job(content=LARGE, path=tmp_path / "content")
            verdict = await send(connection, work)
            assert fate(work)[0] == "d"
            assert server.contents == [LARGE]
            assert verdict.data > 0
            assert ("TLSv1.3" if "STARTTLS" in extensions else "") == connection.secure

    run(scenario())


def watch(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when the transport asks for a pause."""
    paused, pause = asyncio.Event(), connection.pause_writing

    def pause_writing() -> None:
        pause()
        paused.set()

    monkeypatch.setattr(connection, "pause_writing", pause_writing)
    return paused


def test_back_pressure(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that does not read holds the stream up: memory stays bounded, and nothing is lost afterwards."""

    async def scenario() -> None:
        gate = asyncio.Event()
        async with connected({"CONTENT": gate}, receive_buffer=65536) as (server, connection):
            paused = watch(connection, monkeypatch)
            work = job(content=LARGE * 4, path=tmp_path / "content")
            sending = asyncio.ensure_future(send(connection, work))
            await paused.wait()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert (
                connection._transport.get_write_buffer_size() < BLOCK + 65536
            )  # below that it does not pause
            gate.set()
            await sending
            assert server.contents == [LARGE * 4]

    run(scenario())


def test_a_peer_that_stops_reading(run: Run, tmp_path: Path) -> None:
    """A block that is not taken in its time: deferred, not ambiguous, for the dot was not sent."""

    async def scenario() -> None:
        async with connected({"CONTENT": STALL}, timeouts=SHORT, receive_buffer=8192) as (server, connection):
            work = job(content=LARGE * 4, path=tmp_path / "content")
            await send(connection, work)
            assert fate(work) == ("D", "4.4.2", "data")
            assert connection.closed

    run(scenario())


@pytest.mark.parametrize("answer", [DROP, RESET], ids=["EOF", "RST"])
def test_cut_in_mid_content(run: Run, tmp_path: Path, answer: Answer) -> None:
    """Before the dot a cut is not ambiguous."""

    async def scenario() -> None:
        async with connected({"CONTENT": answer}, receive_buffer=8192) as (_, connection):
            work = job(content=LARGE * 4, path=tmp_path / "content")
            await send(connection, work)
            assert fate(work) == ("D", "4.4.2", "data")

    run(scenario())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("552 5.3.4 too big", ("F", "5.3.4", "data")),
        ("451 4.3.1 disk", ("D", "4.3.1", "data")),
        ("250 2.0.0 ok", ("D", "4.5.0", "data")),
        ("421 4.3.2 bye", ("D", "4.3.2", "data")),
    ],
)
def test_a_reply_in_mid_content(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str, expected: tuple[str, str, str]
) -> None:
    """A refusal that comes early stands, a 250 does not; the connection is cut without the dot."""

    async def scenario() -> None:
        gate = asyncio.Event()
        async with connected({"CONTENT": (gate, reply, STALL)}, receive_buffer=8192) as (server, connection):
            paused = watch(connection, monkeypatch)
            work = job(content=LARGE * 4, path=tmp_path / "content")
            sending = asyncio.ensure_future(send(connection, work))
            await paused.wait()
            gate.set()
            await sending
            assert expected == fate(work)
            assert connection.closed
            assert server.contents == []

    run(scenario())


@pytest.mark.parametrize("harm", ["changed", "cut", "longer", "gone", "directory"])
def test_corrupt_content(run: Run, tmp_path: Path, harm: str) -> None:
    """What is not what was accepted never gets its final dot; nobody is told anything but the lane."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            path = tmp_path / "content"
            work = job(content=LARGE, path=path)
            if harm == "changed":
                path.write_bytes(LARGE[:-5] + b"y" + LARGE[-4:])
            elif harm == "cut":
                path.write_bytes(LARGE[:-500])
            elif harm == "longer":
                path.write_bytes(LARGE + b"x")
            else:
                path.unlink()
                if harm == "directory":
                    path.mkdir()
            verdict = await send(connection, work)
            assert Kind.CORRUPT is verdict.kind and verdict.text
            assert work.results == {}
            assert connection.closed
            await server.conversations[0].ended.wait()
            assert server.conversations[0].contents == []

    run(scenario())


def test_a_file_not_in_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot say what is cached, blocks are read in a thread."""
    monkeypatch.setattr("relay.delivery.content_reader._NOWAIT", None)

    async def scenario() -> None:
        async with connected() as (server, connection):
            await send(connection, job(content=LARGE, path=tmp_path / "content"))
            assert server.contents == [LARGE]

    run(scenario())


def test_a_cut_while_a_block_is_read(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread comes back when the job has ended: nothing comes of it, and the file is closed."""
    monkeypatch.setattr("relay.delivery.content_reader._NOWAIT", None)
    reading, go_on = threading.Event(), threading.Event()
    preadv = os.preadv

    def slow(descriptor: int, buffers: list[bytearray], offset: int) -> int:
        reading.set()
        go_on.wait(10)
        return preadv(descriptor, buffers, offset)

    async def scenario() -> None:
        async with connected() as (_, connection):
            path = tmp_path / "content"
            work = job(content=LARGE, path=path)
            monkeypatch.setattr(os, "preadv", slow)
            sending = asyncio.ensure_future(send(connection, work))
            await asyncio.to_thread(reading.wait, 10)
            connection.abort()
            await sending
            assert fate(work)[0] == "D"
            assert is_open(path)
            go_on.set()
            await asyncio.get_running_loop().shutdown_default_executor()
            await asyncio.sleep(0)
            assert not is_open(path)

    run(scenario())


def is_open(path: Path) -> bool:
    """Does this process hold the file open?"""
    return any(link.exists() and link.samefile(path) for link in Path("/proc/self/fd").iterdir())
