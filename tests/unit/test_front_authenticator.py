"""Is this the password: the memory of what was right, the throttle before, the time it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from fakes.clock import FakeClock
from fakes.front import RecordingEvents

from relay.front import authenticator as module
from relay.front.authenticator import Authenticator, Verdict
from relay.front.hashing import Busy, Hashing
from relay.front.throttle import LIMIT, WINDOW
from relay.users.listing import Listing, parse_listing
from relay.users.password import Cost, make_hash

A, B = "192.0.2.1", "192.0.2.2"
CHEAP = Cost(ln=10)


class CountingHashing(Hashing):
    """Counts the checks that reach a thread. error: raised instead."""

    def __init__(self) -> None:
        super().__init__(1)
        self.checks = 0
        self.error: Exception | None = None

    async def run(
        self, client: str, work: Callable[[], bool], wanted: Callable[[], bool] = lambda: True
    ) -> bool | None:
        def counted() -> bool:
            self.checks += 1
            return work()

        if self.error is not None:
            raise self.error
        return await super().run(client, counted, wanted)


def users(cost: Cost = CHEAP, **passwords: str) -> Listing:
    return parse_listing(
        "\n".join(f"{name}:{make_hash(word, bytes(16), cost).line}" for name, word in passwords.items())
    )


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.events = RecordingEvents()
        self.hashing = CountingHashing()
        self.authenticator = Authenticator(self.events, self.hashing, self.clock.monotonic)
        self.authenticator.learn(users(anna="geheim", bert="secret"))

    async def check(self, name: str, password: str, address: str = A) -> Verdict:
        return await self.authenticator.check(address, name, password)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.authenticator.close()


async def test_right_and_wrong(world: World) -> None:
    """Only the user's own password; what is wrong is answered later."""
    verdict = await world.check("anna", "geheim")
    assert verdict.user is not None
    assert (verdict.result, verdict.user.name, verdict.delay) == ("ok", "anna", 0.0)
    for name, password in (("anna", "secret"), ("bert", "geheim"), ("nobody", "geheim"), ("anna", "")):
        verdict = await world.check(name, password, B)
        assert (verdict.result, verdict.user) == ("failed", None)
        assert verdict.delay > 0
    assert world.events.bugs == []


async def test_what_was_right_is_remembered(world: World) -> None:
    """No thread, no task; REMEMBERED_FOR after its last use it is checked again."""
    assert world.authenticator.recall("anna", "geheim") is None
    await world.check("anna", "geheim")
    for _ in range(5):
        user = world.authenticator.recall("anna", "geheim")
        assert user is not None and user.name == "anna"
        world.clock.advance(module.REMEMBERED_FOR - 1)
    assert world.authenticator.recall("anna", "secret") is None
    assert world.authenticator.recall("bert", "geheim") is None
    world.clock.advance(2)
    assert world.authenticator.recall("anna", "geheim") is None
    assert world.hashing.checks == 1


async def test_a_failure_is_not_remembered(world: World) -> None:
    """Only successes are: a password that is set to what was tried before works at once."""
    await world.check("anna", "new")
    assert world.authenticator.recall("anna", "new") is None
    world.authenticator.learn(users(anna="new"))
    assert (await world.check("anna", "new")).result == "ok"


async def test_a_changed_or_removed_user_is_out(world: World) -> None:
    """With the next reading of the file; what did not change stays."""
    await world.check("anna", "geheim")
    await world.check("bert", "secret")
    old = world.authenticator.recall("anna", "geheim")
    assert old is not None and world.authenticator.current(old) is old
    world.authenticator.learn(users(anna="changed", bert="secret"))
    assert world.authenticator.recall("anna", "geheim") is None
    assert world.authenticator.current(old) is None
    assert world.authenticator.recall("bert", "secret") is not None
    world.authenticator.learn(users(anna="geheim"))
    assert world.authenticator.recall("bert", "secret") is None


async def test_a_user_who_is_removed_during_the_check_is_out(world: World) -> None:
    """The answer is that of the file when it is given."""
    check = asyncio.create_task(world.check("anna", "geheim"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.authenticator.learn(users(bert="secret"))
    assert (await check).result == "failed"
    assert world.hashing.checks == 1


async def test_the_memory_is_bounded_and_holds_no_password(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login not used for longest goes first. What is kept is a digest under a key of this process."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    listing = users(anna="geheim", bert="secret", carl="third")
    world.authenticator.learn(listing)
    await world.check("anna", "geheim")
    await world.check("bert", "secret")
    assert world.authenticator.recall("anna", "geheim") is not None
    await world.check("carl", "third")
    assert world.authenticator.recall("bert", "secret") is None
    assert world.authenticator.recall("anna", "geheim") is not None
    other = Authenticator(world.events, world.hashing)
    kept = {*world.authenticator._remembered}
    assert len(kept) == 2 and other._digest("anna", "geheim") not in kept
    assert world.authenticator._digest("anna", "geheim") in kept


async def test_blocked_without_a_check(world: World) -> None:
    """After LIMIT failures of one address nothing is hashed for it; after the window it goes on."""
    for number in range(LIMIT):
        assert (await world.check("anna", str(number))).result == "failed"
    checks = world.hashing.checks
    world.hashing.error = Busy()
    assert (await world.check("anna", "geheim")).result == "blocked", "at once, not in its turn"
    world.hashing.error = None
    assert world.hashing.checks == checks
    assert (await world.check("anna", "geheim", B)).result == "ok"
    world.clock.advance(WINDOW)
    assert (await world.check("anna", "geheim")).result == "ok"


async def test_a_remembered_login_passes_a_blocked_address(world: World) -> None:
    """Behind a NAT one client misbehaves: who sends all day goes on, also when it is checked anew."""
    await world.check("bert", "secret")
    for number in range(LIMIT):
        await world.check("anna", str(number))
    assert (await world.check("anna", "geheim")).result == "blocked"
    assert world.authenticator.recall("bert", "secret") is not None
    world.clock.advance(module.REMEMBERED_FOR + 1)
    for number in range(LIMIT):
        await world.check("anna", f"again {number}")
    assert (await world.check("anna", "geheim")).result == "blocked"
    assert (await world.check("bert", "secret")).result == "ok"


async def test_many_at_once_do_not_pass_the_limit(world: World) -> None:
    """What waits when its client becomes blocked is not checked any more."""
    verdicts = await asyncio.gather(*(world.check("anna", str(number)) for number in range(LIMIT + 10)))
    results = [verdict.result for verdict in verdicts]
    assert (results.count("failed"), results.count("blocked")) == (LIMIT, 10)
    assert world.hashing.checks == LIMIT


async def test_the_same_question_is_one_check(world: World) -> None:
    """Fifty connections of one service after a restart."""
    verdicts = await asyncio.gather(*(world.check("anna", "geheim") for _ in range(50)))
    assert {verdict.result for verdict in verdicts} == {"ok"}
    assert world.hashing.checks == 1
    assert not world.authenticator._flights


async def test_a_failure_counts_although_nobody_waits(world: World) -> None:
    """A guesser who hangs up before the answer."""
    for number in range(LIMIT):
        check = asyncio.create_task(world.check("anna", str(number)))
        await asyncio.sleep(0)
        check.cancel()
        await asyncio.gather(check, return_exceptions=True)
    while world.authenticator._flights:
        await asyncio.wait([*world.authenticator._flights.values()], timeout=10)
    assert (await world.check("anna", "geheim")).result == "blocked"


async def test_trouble_of_ours_is_no_failure(world: World) -> None:
    """Too many at once, a bug, no file: temporary, and not counted against the client."""
    for error, result in ((Busy(), "busy"), (MemoryError(), "error")):
        world.hashing.error = error
        for _ in range(LIMIT + 1):
            assert (await world.check("anna", "geheim")).result == result
    assert len(world.events.bugs) == LIMIT + 1
    world.hashing.error = None
    world.authenticator.learn(None)
    assert (await world.check("anna", "geheim")).result == "error"
    assert world.authenticator.recall("anna", "geheim") is None
    world.authenticator.learn(users(anna="geheim"))
    assert (await world.check("anna", "geheim")).result == "ok"


async def test_an_unknown_user_takes_as_long(world: World) -> None:
    """As a wrong password, also where the lines of the file cost more than usual ones. The shortest CPU times
    of many, taken in turn, are compared: what else runs on this machine only adds to some of them."""
    world.authenticator.learn(users(Cost(ln=13), anna="geheim", bert="secret"))
    times: dict[str, list[float]] = {"anna": [], "nobody": []}
    for number in range(25):
        for name, taken in times.items():
            begun = time.process_time()
            verdict = await world.check(name, f"wrong {number}", f"192.0.2.{number}")
            taken.append(time.process_time() - begun)
            assert verdict.result == "failed"
    known, unknown = (min(taken) for taken in times.values())
    print(f"wrong password {known * 1000:.2f} ms, unknown user {unknown * 1000:.2f} ms")
    assert abs(known - unknown) < 0.1 * known, (known, unknown)
