"""Connections to a scripted server, on both event loops: good peers, refusals, kept connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from fakes.connected import WITHOUT_PIPELINING, connected, fate, send, short
from fakes.jobs import CONTENT, job
from fakes.loops import LOOPS, Run, running
from fakes.scripted_server import DROP, EXTENSIONS, RESET, STALL, Answer, Script, Step

from relay.delivery.connection import Connection
from relay.delivery.job import Job, Kind, Verdict
from relay.outcome import Delivered
from relay.reply import Reply


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with running(request.param) as run:
        yield run


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
        async with connected({"QUIT": STALL}, timeouts=short("quit")) as (_, connection):
            connection.close()
            await asyncio.wait_for(connection.wait_closed(), 2)

    run(scenario())


def test_a_closed_connection_counts_until_the_peer_has_closed_it(run: Run) -> None:
    """The answer to QUIT is not the end: a peer that counts has one less when it closes."""

    async def scenario() -> None:
        gate, told = asyncio.Event(), list[Connection]()
        async with connected({"QUIT": ("221 2.0.0 bye", gate, DROP)}) as (server, connection):
            connection.on_ended = told.append
            connection.close()
            await server.reached("QUIT")
            for _ in range(20):
                await asyncio.sleep(0.005)
                assert connection.closed and not connection.ended
            gate.set()
            await asyncio.wait_for(connection.wait_closed(), 0.3)
            assert connection.ended and told == [connection]

    run(scenario())


def test_a_peer_that_says_goodbye_and_stays_is_left(run: Run) -> None:
    """RFC 5321 4.1.1.10 wants it to close; half a second is enough to wait for that."""

    async def scenario() -> None:
        async with connected({"QUIT": ("221 2.0.0 bye", STALL)}) as (_, connection):
            connection.close()
            await asyncio.wait_for(connection.wait_closed(), 2)

    run(scenario())


def test_a_peer_that_talks_on_after_goodbye_is_left_as_soon(run: Run) -> None:
    """Promise 7: it holds a place of its lane no longer than others."""

    async def scenario() -> None:
        async with connected({"QUIT": STALL}) as (_, connection):
            connection.close()
            async with asyncio.timeout(5):
                while not connection.ended:
                    connection.data_received(b"221 2.0.0 bye\r\n")
                    await asyncio.sleep(0.05)

    run(scenario())


def test_messages_are_counted_as_the_peer_counts_them(run: Run) -> None:
    """Each MAIL is one: 250 recipients are three, and a RSET before one is none."""

    async def scenario() -> None:
        async with connected() as (server, connection):
            await send(connection, job(*(f"u{number}@example.org" for number in range(250))))
            assert connection.messages == 3
            await send(connection, job())
            assert connection.messages == 4
            said = server.conversations[0].commands
            assert sum(command.startswith(b"MAIL") for command in said) == 4
        async with connected({"DATA": "451 later"}, WITHOUT_PIPELINING) as (server, connection):
            await send(connection, job())
            await send(connection, job())
            assert server.conversations[0].commands.count(b"RSET") == 1
            assert connection.messages == 2

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
