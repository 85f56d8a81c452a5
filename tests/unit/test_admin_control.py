"""The control socket: requests and answers on a real UNIX socket, with a queue of the test's own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fakes.operator_queue import FakeQueue, row

import relay.admin.control as control_module
from mailqueue.entry import Filter, Recipient, Row, State, message_name
from relay.admin.commands import FIRST_PAGE, PAGE, Commands
from relay.admin.content import BLOCK
from relay.admin.control import Control
from relay.admin.place import NAME, runtime_directory, socket_path
from relay.observe.events import Events
from relay.wire import stuff


class Side:
    """A daemon's control socket and what it was told."""

    def __init__(self, spool: Path, queue: FakeQueue, runtime: Path | None = None) -> None:
        self.spool, self.queue = spool, queue
        self.changes: list[tuple[str, int, str]] = []
        self.events = Events()
        commands = Commands(
            queue,
            lane_state=lambda lane: {"lane": lane, "state": "healthy", "reason": ""},
            explain=self.explain,
            facts=lambda: {"version": "1"},
            begins=lambda action: self.changes.append((action, len(queue.rows), "begins")),
            changed=lambda action, entries, text: self.changes.append((action, entries, text)),
        )
        self.control = Control(spool, commands, self.events, runtime)

    async def explain(self, recipient: str, sender: str) -> dict[str, Any]:
        return {"recipient": recipient, "sender": sender, "lane": "mx:example.org"}

    async def ask(self, request: object) -> list[dict[str, Any]]:
        """The objects of one answer."""
        line = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        reader, writer = await self.connect()
        writer.write(line)
        items = []
        while answer := await reader.readline():
            items.append(json.loads(answer))
            if items[-1].keys() & {"end", "error"}:
                break
        writer.close()
        await writer.wait_closed()
        return items

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with socket_path(self.spool / NAME) as path:
            return await asyncio.open_unix_connection(path)


@pytest.fixture
async def side(tmp_path: Path) -> AsyncIterator[Side]:
    made = Side(
        tmp_path, FakeQueue([row(1), row(2, State.HELD, "bill@shop.example"), row(3, State.ACTIVE, "")])
    )
    await made.control.start()
    yield made
    await made.control.stop()


NAMES = [message_name(10**15 + number) for number in range(4)]


async def test_list_has_postfix_names_and_ours(side: Side) -> None:
    """As `postqueue -j`, with lane, state, next attempt and attempts beside."""
    first, second, third, end = await side.ask({"command": "list"})
    assert first == {
        "queue_name": "deferred", "queue_id": NAMES[1], "arrival_time": 1_699_992_500, "message_size": 12_345,
        "forced_expire": False, "sender": "alice@corp.example",
        "recipients": [{"address": "bob@example.org", "delay_reason": "451 4.7.1 try later"}],
        "lane": "mx:example.org", "state": "deferred", "next_attempt": 1_700_000_600.0, "attempts": 2,
        "crashes": 0,
    }  # fmt: skip
    assert (second["state"], second["next_attempt"]) == ("hold", None)
    assert (third["state"], third["sender"]) == ("active", "MAILER-DAEMON")
    assert end == {"end": True, "count": 3}


@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        ({"sender": "@shop.example"}, 1),
        ({"states": ["deferred", "hold"]}, 2),
        ({"ids": [NAMES[1], NAMES[3]]}, 2),
        ({"ids": [NAMES[1]], "states": ["hold"]}, 0),
        ({"lane": "mx:other.example"}, 0),
    ],
)
async def test_filters_choose(side: Side, filter_: dict[str, Any], count: int) -> None:
    """Every field narrows; ids and fields together mean both."""
    assert (await side.ask({"command": "list"} | filter_))[-1] == {"end": True, "count": count}


async def test_long_lists_come_in_pages(side: Side) -> None:
    """The first page is small, none is larger than the rest; every row comes once, in order."""
    side.queue.rows = [row(number, size=number) for number in range(1, 2001)]
    items = await side.ask({"command": "list"})
    assert [item["message_size"] for item in items[:-1]] == list(range(1, 2001))
    assert side.queue.largest_page == PAGE > FIRST_PAGE


class Endless(FakeQueue):
    """A queue without end, that counts what was read from it."""

    read = 0

    async def search(self, f: Filter, after: int = 0, limit: int = 1000) -> list[Row]:
        self.read += limit
        return [row(after + 1 + number) for number in range(limit)]


async def test_a_slow_reader_stops_the_reading(tmp_path: Path) -> None:
    """Nothing is read ahead of what the client takes; when it goes away the reading ends."""
    side = Side(tmp_path, queue := Endless())
    await side.control.start()
    reader, writer = await side.connect()
    writer.write(b'{"command": "list"}\n')
    await reader.readline()
    seen = -1
    for _ in range(1000):
        await asyncio.sleep(0.005)
        if queue.read == seen:
            break
        seen = queue.read
    assert queue.read == seen < 20_000
    writer.close()
    await writer.wait_closed()
    for _ in range(1000):
        await asyncio.sleep(0.001)
        if not side.control._clients:
            break
    assert not side.control._clients
    await side.control.stop()


async def test_show_has_the_lane(side: Side) -> None:
    """Each entry of the message with the state of its lane."""
    entry, end = await side.ask({"command": "show", "ids": [NAMES[1]]})
    assert entry["lane_state"]["state"] == "healthy"
    assert end == {"end": True, "count": 1}


@pytest.mark.parametrize("where", ["memory", "file"])
async def test_show_gives_the_content_unstuffed(side: Side, tmp_path: Path, where: str) -> None:
    """As it was sent, also when a doubled dot falls on the border of two blocks."""
    plain = b".dot\r\n" + b"x" * (BLOCK - 9) + b"\r\n.\r\n..two\r\nend\r\n"
    wire = stuff(plain)
    assert wire[:BLOCK].endswith(b"\r\n")
    if where == "file":
        (tmp_path / "content").write_bytes(wire)
    side.queue.contents[NAMES[1]] = wire if where == "memory" else tmp_path / "content"
    items = await side.ask({"command": "show", "ids": [NAMES[1]], "content": True})
    blocks = [base64.b64decode(item["content"]) for item in items if "content" in item]
    assert len(blocks) == 2
    assert b"".join(blocks) == plain


async def test_lanes_and_status(side: Side) -> None:
    """Counts by lane and by state."""
    lane, end = await side.ask({"command": "lanes"})
    assert lane["lane"] == "mx:example.org"
    assert lane["states"]["hold"] == {"messages": 1, "bytes": 12_345, "oldest": 1_699_992_500.0}
    assert end["count"] == 1
    status, _ = await side.ask({"command": "status"})
    assert status["version"] == "1"
    assert set(status["states"]) == {"incoming", "active", "deferred", "hold", "quarantine"}


async def test_explain_adds_lane_and_queue(side: Side) -> None:
    """What routing says, with the lane's state and what waits in it."""
    facts, _ = await side.ask({"command": "explain", "address": "a@example.org", "from": "b@c"})
    assert (facts["recipient"], facts["sender"]) == ("a@example.org", "b@c")
    assert facts["lane_state"]["state"] == "healthy"
    assert facts["queue"]["deferred"]["messages"] == 1


@pytest.mark.parametrize(
    ("request_", "left", "told"),
    [
        ({"command": "hold", "ids": [NAMES[1]]}, 3, ("hold", 1, NAMES[1])),
        ({"command": "release", "states": ["hold"]}, 3, ("release", 1, "state=hold")),
        ({"command": "retry", "all": True}, 3, ("retry", 3, "")),
        ({"command": "drop", "sender": "@shop.example"}, 2, ("drop", 1, "sender=@shop.example")),
        ({"command": "drop", "ids": NAMES[1:3]}, 1, ("drop", 2, f"{NAMES[1]} {NAMES[2]}")),
    ],
)
async def test_changes_are_counted_and_told(
    side: Side, request_: dict[str, Any], left: int, told: tuple[str, int, str]
) -> None:
    """The answer has the count; the log learns who changed what, delivery before it is changed."""
    assert await side.ask(request_) == [{"end": True, "count": told[1]}]
    assert len(side.queue.rows) == left
    assert side.changes == [(told[0], 3, "begins"), told]


async def test_a_dry_run_only_counts(side: Side) -> None:
    """Nothing is changed or told."""
    assert (await side.ask({"command": "drop", "all": True, "dry_run": True}))[0]["count"] == 3
    assert (len(side.queue.rows), side.changes) == (3, [])


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        ({"command": "drop"}, 64, "Name ids or a filter, or say --all"),
        ({"command": "dance"}, 64, "no command 'dance'"),
        ({}, 64, "no command ''"),
        ([], 64, "must be a JSON object"),
        (b"nonsense\n", 64, "not JSON"),
        (b"\xff\xfe\n", 64, "not JSON"),
        (b'{"command": "list", "sender": "' + b"x" * 2**20 + b'"}\n', 64, "longer than"),
        ({"command": "show", "ids": ["!"]}, 64, "'!' is not a queue id"),
        ({"command": "show", "ids": ["aaaa"]}, 66, "aaaa: not in the queue"),
        ({"command": "show"}, 64, "which message"),
        ({"command": "list", "states": ["gone"]}, 64, "no state 'gone'"),
        ({"command": "list", "states": "hold"}, 64, "states must be list"),
        ({"command": "list", "ids": [1]}, 64, "ids must be a list of texts"),
        ({"command": "list", "older_than": -1}, 64, "older_than must be a number of seconds"),
        ({"command": "list", "older_than": True}, 64, "older_than must be a number of seconds"),
        ({"command": "list", "sender": 1}, 64, "sender must be str"),
        ({"command": "explain", "address": "nobody"}, 64, "'nobody' is not an address"),
    ],
)
async def test_wrong_requests_are_refused(side: Side, request_: object, code: int, text: str) -> None:
    """Each with its reason and exit code; the daemon goes on."""
    (answer,) = await side.ask(request_)
    assert (answer["code"], text in answer["error"]) == (code, True), answer
    assert len(await side.ask({"command": "list"})) == 4


async def test_a_bug_is_answered_and_counted(side: Side) -> None:
    """An unexpected exception ends one answer, not the daemon."""

    async def broken(f: Filter, after: int = 0, limit: int = 1000) -> list[Row]:
        raise RuntimeError("broken")

    side.queue.search = broken  # type: ignore[method-assign]
    assert (await side.ask({"command": "list"}))[0]["code"] == 70
    assert side.events.metrics.bugs.values[("control",)] == 1


async def test_a_long_answer_shows_life(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a command takes its time the client hears of it."""
    monkeypatch.setattr(control_module, "WAIT", 0.01)
    gate = asyncio.Event()

    async def slow(f: Filter) -> int:
        await gate.wait()
        return 5

    side.queue.drop = slow  # type: ignore[method-assign]
    reader, writer = await side.connect()
    writer.write(b'{"command": "drop", "all": true}\n')
    assert json.loads(await reader.readline()) == {"wait": True}
    gate.set()
    while (item := json.loads(await reader.readline())) == {"wait": True}:
        pass
    assert item == {"end": True, "count": 5}
    writer.close()
    await writer.wait_closed()


async def test_several_requests_on_one_connection(side: Side) -> None:
    """A client may ask again."""
    reader, writer = await side.connect()
    for _ in range(2):
        writer.write(b'{"command": "drop", "all": true, "dry_run": true}\n')
        assert json.loads(await reader.readline())["count"] == 3
    writer.close()
    await writer.wait_closed()


async def test_only_the_owner_may_come_in(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is mode 0600, and the peer's user id is checked."""
    assert stat.S_IMODE((side.spool / "control").stat().st_mode) == 0o600
    monkeypatch.setattr(control_module, "_peer", lambda writer: 12345 + os.geteuid())
    (answer,) = await side.ask({"command": "list"})
    assert answer["code"] == 77


async def test_too_many_clients_are_turned_away(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound, with a clear answer."""
    monkeypatch.setattr(control_module, "CLIENTS", 1)
    _, writer = await side.connect()
    (answer,) = await side.ask({"command": "list"})
    assert answer["code"] == 69
    writer.close()
    await writer.wait_closed()


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed daemon left behind does not stop the next one; anything but a socket does."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control"))
    side = Side(tmp_path, FakeQueue())
    await side.control.start()
    assert await side.ask({"command": "list"}) == [{"end": True, "count": 0}]
    await side.control.stop()
    assert not (tmp_path / "control").exists()
    (tmp_path / "control").write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        await side.control.start()
    assert (tmp_path / "control").read_text() == "precious"


async def test_a_runtime_directory_holds_the_socket(tmp_path: Path) -> None:
    """A link in the spool leads to it, also in place of one that a killed daemon left; two spools may share a
    directory; at the end nothing is left."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    sides = []
    for name in ("one", "two"):
        spool = tmp_path / name
        spool.mkdir()
        (spool / "control").symlink_to(tmp_path / "nowhere")
        sides.append(Side(spool, FakeQueue([row(1)]), runtime))
        await sides[-1].control.start()
    for side in sides:
        assert (side.spool / "control").readlink().parent == runtime
        assert stat.S_IMODE((side.spool / "control").stat().st_mode) == 0o600
        assert (await side.ask({"command": "list"}))[-1]["count"] == 1
        await side.control.stop()
        assert not list(side.spool.iterdir())
    assert not list(runtime.iterdir())


async def test_the_link_of_a_runtime_directory_is_replaced(tmp_path: Path) -> None:
    """Started by hand on the spool of a service that was killed: the socket is in the spool again."""
    (tmp_path / "control").symlink_to("/run/relay/gone")
    side = Side(tmp_path, FakeQueue())
    await side.control.start()
    assert (tmp_path / "control").is_socket() and not (tmp_path / "control").is_symlink()
    await side.control.stop()


def test_what_names_a_runtime_directory() -> None:
    """systemd names several with colons between; a name that is no path is not used."""
    assert runtime_directory({"RUNTIME_DIRECTORY": "/run/relay:/run/other"}) == Path("/run/relay")
    assert runtime_directory({}) is runtime_directory({"RUNTIME_DIRECTORY": "relay"}) is None


async def test_stop_cuts_what_is_open(side: Side) -> None:
    """A client that says nothing does not keep the daemon from ending."""
    reader, writer = await side.connect()
    writer.write(b'{"command": "drop", "all": true, "dry_run": true}\n')
    await reader.readline()
    await side.control.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_long_path_on_both_loops(tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Longer than the 108 octets of a socket address."""
    spool = tmp_path.joinpath(*(["a" * 40] * 4))
    spool.mkdir(parents=True)

    async def talk() -> list[dict[str, Any]]:
        side = Side(spool, FakeQueue([row(1)]))
        await side.control.start()
        assert (spool / "control").is_socket()
        answer = await side.ask({"command": "list"})
        await side.control.stop()
        return answer

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(talk())[-1] == {"end": True, "count": 1}


def test_recipients_without_a_reply_have_no_reason() -> None:
    """As with Postfix: delay_reason is there only when something was said."""
    from relay.admin.shape import row_object

    fresh = row(1, State.INCOMING, recipients=[Recipient("a@b")])
    assert row_object(fresh)["recipients"] == [{"address": "a@b"}]


async def test_damaged_content_is_said_to_be_damaged(side: Side) -> None:
    """Not an internal error: the operator hears what is wrong with it."""
    side.queue.damaged.add(NAMES[1])
    last = (await side.ask({"command": "show", "ids": [NAMES[1]], "content": True}))[-1]
    assert (last["code"], last["error"]) == (66, f"{NAMES[1]} cannot be shown: its content file is missing")
