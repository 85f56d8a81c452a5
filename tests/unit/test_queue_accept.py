"""mailqueue: a message comes in, is leased, is settled."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from fakes.spool import Recorder, everything, leasing, message, opened

from mailqueue import (
    Entry,
    Message,
    QueueError,
    Recipient,
    State,
    durable,
    message_name,
    message_number,
)


async def test_a_message_waits_until_it_is_leased(tmp_path: Path) -> None:
    """Nobody admits it: it is INCOMING, counted by state and by lane, and found by a search."""
    async with opened(tmp_path / "spool") as queue:
        number = await queue.accept(message("mx:a", "mx:b", content=b"12345"))
        stats = queue.stats()
        rows = await everything(queue)
        lanes = await queue.lanes()
    assert (stats[State.INCOMING].entries, stats[State.INCOMING].bytes) == (2, 10)
    assert [message_name(number)] * 2 == [row.message for row in rows]
    assert [lane.lane for lane in lanes] == ["mx:a", "mx:b"]
    assert {State.INCOMING} == set(lanes[0].states)


async def test_admitted_mail_is_leased_at_once_with_its_content(tmp_path: Path) -> None:
    """admit is asked once a lane; the lease holds meta and content; done comes first, in the same turn."""
    async with opened(tmp_path / "spool") as queue:
        events: list[tuple[str, object]] = []

        def admit(lane: str) -> bool:
            events.append(("admit", lane))
            return lane == "mx:a"

        queue.admit = admit
        queue.on_leased = lambda entry: events.append(("leased", entry))
        waiting = asyncio.Event()

        def done(number: int, error: Exception | None) -> None:
            events.append(("done", error))
            waiting.set()

        number = queue.submit(message("mx:a", "mx:b", content=b"hello"), done)
        assert events == []
        await waiting.wait()
        assert [kind for kind, _ in events] == ["admit", "admit", "done", "leased"]
        entry = events[3][1]
        assert isinstance(entry, Entry)
        assert (number, "mx:a", True, b"hello", b"meta") == (
            entry.message, entry.lane, entry.fresh, entry.content, entry.meta
        )  # fmt: skip
        assert (queue.stats()[State.ACTIVE].entries, queue.stats()[State.ACTIVE].bytes) == (1, 5)
        assert queue.stats()[State.INCOMING].entries == 1


async def test_done_follows_a_sync_that_began_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that comes while a sync is under way is not released by that sync, but by the next."""
    async with opened(tmp_path / "spool") as queue:
        began, go = threading.Semaphore(0), threading.Semaphore(0)
        syncs: list[int] = []
        real = durable.sync_log

        def slow(descriptor: int) -> None:
            began.release()
            go.acquire()
            real(descriptor)
            syncs.append(1)

        monkeypatch.setattr(durable, "sync_log", slow)
        first = asyncio.ensure_future(queue.accept(message()))
        await asyncio.to_thread(began.acquire)
        second = asyncio.ensure_future(queue.accept(message()))
        go.release()
        await first
        await asyncio.to_thread(began.acquire)
        assert (len(syncs), second.done()) == (1, False)
        go.release()
        await second
        monkeypatch.undo()


async def test_what_waits_shares_a_commit(tmp_path: Path) -> None:
    """Everything submitted in one turn of the loop is one transaction and one sync."""
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        await asyncio.gather(*(queue.accept(message()) for _ in range(50)))
        assert seen.commits == [50]


async def test_the_last_lane_takes_the_message_with_it(tmp_path: Path) -> None:
    """The row of the message goes with its last entry, and not before."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        number = await queue.accept(message("mx:a", "mx:b", content=b"x" * 5000))
        name = message_name(number)
        queue.settle(leased[0])
        await queue.flush()
        assert await queue.read_content(name) == b"x" * 5000
        queue.settle(leased[1])
        await queue.flush()
        assert await queue.read_content(name) is None
        assert (queue.stats()[State.ACTIVE].entries, queue.stats()[State.ACTIVE].bytes) == (0, 0)
        assert await everything(queue) == []


async def test_settle_defers_what_remains(tmp_path: Path) -> None:
    """The remaining recipients, with their replies, wait for the due time; the attempt counts."""
    clock = FakeClock()
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:a"))
        remaining = [Recipient("c@example.net", "NOTIFY=NEVER", "451 4.2.0 later \u00e9")]
        queue.settle(leased[0], remaining, due=clock.time() + 60)
        await queue.flush()
        (row,) = await everything(queue)
    assert (State.DEFERRED, 1, clock.time() + 60, remaining) == (
        row.state,
        row.attempts,
        row.due,
        row.recipients,
    )


async def test_giving_back_changes_nothing(tmp_path: Path) -> None:
    """counted=False: the state, the due time and the attempts are those from before the lease."""
    clock = FakeClock(wall=1_700_000_000.123)
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:a"))
        queue.settle(leased[0], leased[0].recipients, counted=False)
        await queue.flush()
        (row,) = await everything(queue)
        assert (State.INCOMING, 0, clock.time()) == (row.state, row.attempts, row.due)
        queue.claim_lane("mx:a")
        (again,) = await queue.take("mx:a", 1)
        assert again.fresh
        queue.settle(again, again.recipients, due=clock.time())
        (again,) = await queue.take("mx:a", 1)
        assert (again.fresh, again.attempts) == (False, 1)
        queue.settle(again, again.recipients, counted=False)
        await queue.flush()
        (row,) = await everything(queue)
        assert (row.state, row.attempts) == (State.DEFERRED, 1)


async def test_reports_are_stored_in_the_same_commit(tmp_path: Path) -> None:
    """The bounce is durable in the transaction that ends the recipient; admit applies to it."""
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        leased = leasing(queue)
        await queue.accept(message("mx:a"))
        before = len(seen.commits)
        queue.settle(leased[0], reports=[message("mx:back", content=b"sorry", sender="")])
        await queue.flush()
        assert before + 1 == len(seen.commits)
        assert (leased[1].lane, leased[1].content) == ("mx:back", b"sorry")


async def test_an_entry_can_move_to_another_lane(tmp_path: Path) -> None:
    """After a reload: the entry waits in the new lane, which is told when it is claimed."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        told: list[str] = []
        queue.on_due = told.append
        queue.claim_lane("route:new")
        await queue.accept(message("mx:old"))
        queue.settle(leased[0], leased[0].recipients, counted=False, lane="route:new")
        await queue.flush()
        assert told == ["route:new"]
        (entry,) = await queue.take("route:new", 5)
        assert entry.lane == "route:new"
        assert queue.lane_tally("mx:old").states == {}


async def test_an_entry_is_settled_once(tmp_path: Path) -> None:
    """The second settle is a bug of the caller and says so."""
    async with opened(tmp_path / "spool") as queue:
        leased = leasing(queue)
        await queue.accept(message())
        queue.settle(leased[0])
        with pytest.raises(QueueError, match="not leased"):
            queue.settle(leased[0])


@pytest.mark.parametrize(
    "wrong",
    [
        Message("a@b", {}, b""),
        Message("a@b", {"lane": []}, b""),
        Message("a@b", {str(n): [Recipient("x")] for n in range(1001)}, b""),
        Message("a\udc80@b", {"lane": [Recipient("x")]}, b""),
        Message("a@b", {"lane": [Recipient("\udc80")]}, b""),
        Message("a@b", {"mx:\ufffd.example": [Recipient("x")]}, b""),
    ],
)
async def test_what_is_no_message_is_refused_at_once(tmp_path: Path, wrong: Message) -> None:
    """A bug of one caller must not reach a transaction it shares with others."""
    async with opened(tmp_path / "spool") as queue:
        with pytest.raises(ValueError):
            queue.submit(wrong, lambda number, error: None)
        await queue.accept(message())


async def test_a_failing_hook_hurts_nobody_else(tmp_path: Path) -> None:
    """An admit that raises means no; a callback that raises is reported; the rest goes on."""
    async with opened(tmp_path / "spool") as queue:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["message"])
        )
        queue.admit = lambda lane: bool(1 / 0)

        def done(number: int, error: Exception | None) -> None:
            raise RuntimeError("boom")

        queue.submit(message(), done)
        await queue.accept(message())
        assert reported == ["admit failed", "admit failed", "a callback of the mail queue failed"]
        assert queue.stats()[State.INCOMING].entries == 2


async def test_ids_never_repeat_and_never_go_back(tmp_path: Path) -> None:
    """Also when the clock is set back, and after a restart with such a clock."""
    clock = FakeClock()
    ids = []
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        ids += [await queue.accept(message()) for _ in range(3)]
        clock.jump(-86400)
        ids += [await queue.accept(message())]
    async with opened(tmp_path / "spool", now=clock.time) as queue:
        ids += [await queue.accept(message())]
    assert sorted(set(ids)) == ids


@pytest.mark.parametrize("number", [1, 31, 32, 1_700_000_000_000_000, 2**53])
def test_names_of_messages(number: int) -> None:
    """There and back, in capitals too."""
    assert number == message_number(message_name(number)) == message_number(message_name(number).upper())


@pytest.mark.parametrize("name", ["", "u", "1" * 14, "ab!"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="not a queue id"):
        message_number(name)


async def test_a_transaction_holds_a_bounded_amount_of_content(tmp_path: Path) -> None:
    """It is written on the event loop, which has other things to do."""
    seen = Recorder()
    async with opened(tmp_path / "spool", observer=seen) as queue:
        body = bytes(128 * 1024)
        await asyncio.gather(*(queue.accept(message(content=body)) for _ in range(100)))
        assert (sum(seen.commits), max(seen.commits)) == (100, 32)
