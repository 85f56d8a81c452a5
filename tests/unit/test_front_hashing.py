"""The queue of password checks: bounded, every client in its turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from relay.front import hashing
from relay.front.hashing import Busy, Hashing


class Gate:
    """Work that waits until it is opened, and writes down who ran in which order."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.ran: list[str] = []
        self.threads: set[str] = set()
        self.most = self._now = 0
        self._lock = threading.Lock()

    def work(self, name: str) -> bool:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        assert self.open.wait(20)
        self.ran.append(name)
        self.threads.add(threading.current_thread().name)
        with self._lock:
            self._now -= 1
        return True


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


async def started(checks: list[asyncio.Task[bool | None]]) -> None:
    """Every task ran up to where it waits."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert checks


def check(
    queue: Hashing, gate: Gate, client: str, name: str = "", wanted: bool = True
) -> asyncio.Task[bool | None]:
    return asyncio.create_task(queue.run(client, lambda: gate.work(name or client), lambda: wanted))


async def test_each_client_in_its_turn(gate: Gate) -> None:
    """Twenty checks of one client are before another's in time, and not in turn."""
    queue = Hashing(1)
    checks = [check(queue, gate, "a") for _ in range(20)]
    checks += [check(queue, gate, client) for client in "bcb"]
    await started(checks)
    gate.open.set()
    assert await asyncio.gather(*checks) == [True] * 23
    assert gate.ran[:6] == ["a", "a", "b", "c", "a", "b"]
    assert (gate.most, len(gate.threads)) == (1, 1)
    queue.close()


async def test_threads_are_few(gate: Gate) -> None:
    """As many at a time as there are threads."""
    queue = Hashing(2)
    checks = [check(queue, gate, str(number)) for number in range(10)]
    await started(checks)
    gate.open.set()
    await asyncio.gather(*checks)
    assert gate.most <= 2 and len(gate.threads) <= 2
    assert 1 <= hashing.THREADS <= 2
    queue.close()


async def test_one_client_cannot_fill_the_queue(gate: Gate) -> None:
    """Its own share is bounded; beyond the whole queue's limit others are still taken once each."""
    queue = Hashing(1)
    share = [check(queue, gate, "a") for _ in range(hashing.CLIENT_LIMIT + 1)]
    await started(share)
    with pytest.raises(Busy):
        await queue.run("a", lambda: True)
    others = [
        check(queue, gate, f"{number // hashing.CLIENT_LIMIT}")
        for number in range(hashing.WAITING_LIMIT - hashing.CLIENT_LIMIT)
    ]
    await started(others)
    with pytest.raises(Busy):
        await queue.run("0", lambda: True)
    honest = check(queue, gate, "honest")
    await started([honest])
    gate.open.set()
    assert await honest
    turns = [*dict.fromkeys(gate.ran)]
    assert gate.ran.index("honest") <= len(turns), "behind one check of each client, not behind all"
    await asyncio.gather(*share, *others)
    queue.close()


async def test_the_queue_is_bounded(gate: Gate) -> None:
    """However many clients there are."""
    queue = Hashing(1)
    checks = [check(queue, gate, str(number)) for number in range(hashing.CLIENTS_LIMIT + 1)]
    await started(checks)
    with pytest.raises(Busy):
        await queue.run("one more", lambda: True)
    gate.open.set()
    assert all(await asyncio.gather(*checks))
    queue.close()


async def test_what_is_no_longer_wanted_is_not_run(gate: Gate) -> None:
    """Whoever was blocked while they waited gets no check; the place is free for the next."""
    queue = Hashing(1)
    checks = [check(queue, gate, "a"), check(queue, gate, "b", wanted=False), check(queue, gate, "c")]
    await started(checks)
    gate.open.set()
    assert await asyncio.gather(*checks) == [True, None, True]
    assert gate.ran == ["a", "c"]
    queue.close()


async def test_an_error_frees_the_place() -> None:
    """It goes to who asked."""
    queue = Hashing(1)

    def broken() -> bool:
        raise MemoryError

    for _ in range(3):
        with pytest.raises(MemoryError):
            await queue.run("a", broken)
    assert await queue.run("a", lambda: True)
    queue.close()
