"""When the relay gives signs of life, when it stops to, and what its status line says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest
from fakes.operator_queue import FakeSpace

from mailqueue import Queue
from mailqueue.entry import State, Tally
from mailqueue.errors import QueueError
from relay.app import App
from relay.cli.supervision import REFRESH, Supervision
from relay.config.model import Config
from relay.observe.events import Events
from relay.observe.notify import ALIVE, READY, STOPPING, Notifier

EMPTY = {state: Tally() for state in State}


class RecordingNotifier(Notifier):
    """Keeps what was said, one entry a datagram."""

    def __init__(self, watchdog: float | None) -> None:
        usec = {} if watchdog is None else {"WATCHDOG_USEC": str(int(watchdog * 1e6))}
        super().__init__({"NOTIFY_SOCKET": "/nowhere", **usec}, print)
        self.said: list[tuple[str, ...]] = []
        self.fifth = asyncio.Event()

    def tell(self, *lines: str) -> None:
        self.said.append(lines)
        if len(self.said) >= 5:
            self.fifth.set()


class CountedQueue:
    """The part of the queue that a status line needs."""

    def __init__(self) -> None:
        self.tallies: Mapping[State, Tally] = EMPTY
        self.full = False
        self.error: QueueError | None = None

    def stats(self) -> Mapping[State, Tally]:
        if self.error:
            raise self.error
        return self.tallies

    def space(self) -> FakeSpace:
        return FakeSpace(full=self.full)


class World:
    """An App that was not started, with a queue to look at."""

    def __init__(self, watchdog: float | None = 30.0) -> None:
        self.events = Events()
        self.queue = CountedQueue()
        self.app = App(Config(), self.events, print)
        self.app.queue = cast(Queue, self.queue)
        self.app.health.queue = self.queue
        self.app.health.accepting = True
        self.notifier = RecordingNotifier(watchdog)
        self.supervision = Supervision(self.app, self.notifier)

    def last(self) -> tuple[str, ...]:
        return self.notifier.said[-1]

    def next_tick(self) -> float:
        """Seconds from now."""
        timer = self.supervision._timer
        assert timer
        return timer.when() - asyncio.get_running_loop().time()


@pytest.fixture
async def world() -> World:
    return World()


async def test_signs_of_life_come_twice_as_often_as_wanted(world: World) -> None:
    """READY first; then a sign and a status line, the next one after a third of the 30 s at most."""
    world.supervision.ready()
    assert world.notifier.said[0] == (READY,)
    assert world.last()[0] == ALIVE and world.last()[1].startswith("STATUS=accepting mail on")
    assert 0 < world.next_tick() <= REFRESH < 15
    slow = World(4.0)
    slow.supervision.ready()
    assert 0 < slow.next_tick() <= 2.0
    for each in (world, slow):
        each.supervision.end()


async def test_the_timer_goes_on_by_itself() -> None:
    """Every tick plans the next one."""
    world = World(0.02)
    world.supervision.ready()
    async with asyncio.timeout(10):
        await world.notifier.fifth.wait()
    assert all(ALIVE in lines for lines in world.notifier.said[1:])
    world.supervision.end()
    assert world.supervision._timer and world.supervision._timer.cancelled()


@pytest.mark.parametrize("trouble", ["failed", "late"])
async def test_who_is_of_no_more_use_is_silent(world: World, trouble: str) -> None:
    """No sign of life while health.alive() has a reason, which the status says; asked again within a second,
    so that one late turn of the loop does not cost two periods."""
    if trouble == "failed":
        world.app.health.failed = "the disk is gone"
    else:
        world.events.lag = 60.0
    world.supervision.tick()
    assert ALIVE not in world.last() and world.last()[-1].startswith("STATUS=not well: the ")
    assert world.next_tick() <= 1.0
    world.app.health.failed, world.events.lag = "", 0.0
    world.supervision.tick()
    assert ALIVE in world.last()
    world.supervision.end()


async def test_the_status_line_says_what_matters(world: World) -> None:
    """Counts that are not 0, suspended next hops, why it is not ready, a failed reload."""
    world.supervision.tick()
    assert world.last()[1].endswith("; nothing queued")
    world.queue.tallies = EMPTY | {
        State.INCOMING: Tally(2),
        State.DEFERRED: Tally(3),
        State.ACTIVE: Tally(1),
        State.QUARANTINED: Tally(4),
    }
    world.queue.full = True
    world.events.lane_suspended("mx:example.org", "connect", 5.0, "refused")
    world.events.reloaded(False, "no")
    world.supervision.tick()
    assert world.last()[1].split("; ")[1:] == [
        "5 waiting, 1 being sent, 4 in quarantine",
        "next hops in trouble: 1",
        "the spool has too little free space",
        "the last reload failed, the old configuration holds",
    ]
    world.supervision.end()


async def test_a_queue_that_cannot_be_read_ends_nothing(world: World) -> None:
    """The relay lives, and the status line says what is wrong."""
    world.queue.error = QueueError("the database cannot be read: busy")
    world.supervision.tick()
    assert ALIVE in world.last() and "cannot be read: busy" in world.last()[1]
    world.supervision.end()


async def test_while_stopping_it_lives_on(world: World) -> None:
    """The end may take longer than the watchdog; the queue is not asked any more."""
    world.supervision.ready()
    world.supervision.stopping()
    assert STOPPING in world.last()
    world.app.health.stopping = True
    world.queue.error = QueueError("closed")
    world.supervision.tick()
    assert world.last() == (ALIVE,)
    world.supervision.end()


async def test_without_a_manager_there_is_no_timer() -> None:
    """Nothing runs that nobody reads."""
    world = World()
    world.supervision = Supervision(world.app, Notifier({}, print))
    world.supervision.ready()
    assert world.supervision._timer is None
