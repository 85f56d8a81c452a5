"""users_file is read again when it changes; a bad one keeps the users, is told once and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fakes.exposure import open_machine

from relay.front import users_watch
from relay.front.authenticator import Authenticator
from relay.front.users_watch import UsersWatch
from relay.observe.events import Events
from relay.users.listing import Listing
from relay.users.password import Cost, make_hash
from relay.users.reading import Reading

LINE = make_hash("geheim", bytes(16), Cost(ln=10)).line


async def until(condition: Callable[[], bool]) -> None:
    """Within ten seconds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("not in time")


class Learner(Authenticator):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(Events())
        self.learned: list[list[str] | None] = []

    def learn(self, listing: Listing | None) -> None:
        super().learn(listing)
        self.learned.append(None if listing is None else sorted(listing.users))


class Told(Events):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def users_trouble(self, text: str) -> None:
        super().users_trouble(text)
        self.texts.append(text)


class CountingWatch(UsersWatch):
    """Counts its looks."""

    looks = 0

    def _look(self, path: Path) -> Reading | None:
        self.looks += 1
        return super()._look(path)


class World:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.learner = Learner()
        self.events = Told()
        self.watch = CountingWatch(self.learner, self.events)

    def write(self, *names: str, extra: str = "") -> None:
        """As an editor does that replaces the file."""
        made = self.path.with_suffix(".new")
        made.write_text("".join(f"{name}:{LINE}\n" for name in names) + extra)
        made.chmod(0o600)
        made.replace(self.path)

    async def learned(self, *names: str) -> None:
        await until(lambda: self.learner.learned[-1:] == [sorted(names)])

    async def told(self, number: int) -> str:
        await until(lambda: len(self.events.texts) >= number)
        return self.events.texts[-1]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(users_watch, "LOOK", 0.005)
    world = World(tmp_path / "users")
    yield world
    world.watch.stop()
    world.learner.close()


async def test_read_again_when_it_changes(world: World) -> None:
    """And only then; the first users are known when it has settled."""
    world.write("anna")
    world.watch.configure(world.path)
    await world.watch.settled()
    assert world.learner.learned == [["anna"]]
    world.write("anna", "bert")
    await world.learned("anna", "bert")
    world.write("bert")
    await world.learned("bert")
    assert len(world.learner.learned) == 3
    assert world.events.metrics.users.values[()] == 1
    assert world.events.texts == []


async def test_written_in_place(world: World) -> None:
    """A file that is written over, not replaced, is read as well, once it stays the same."""
    world.write("anna")
    world.watch.configure(world.path)
    await world.watch.settled()
    world.path.write_text(f"carl:{LINE}\ndora:{LINE}\n")
    await world.learned("carl", "dora")


async def test_half_a_file_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at an emptied file that is still being written changes nothing."""
    world.write("anna")
    world.watch.configure(world.path)
    await world.watch.settled()
    world.watch.stop()
    world.path.write_text("")
    assert world.watch._look(world.path) is None
    world.path.write_text(f"anna:{LINE}\nbert:{LINE}\n")
    assert world.watch._look(world.path) is None
    found = world.watch._look(world.path)
    assert found is not None and sorted(found.listing.users) == ["anna", "bert"]


@pytest.mark.parametrize("how", ["absent", "binary", "directory", "huge"])
async def test_a_bad_file_keeps_the_users(world: World, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Told once, counted once, with the path; a good one is taken again."""
    world.write("anna")
    world.watch.configure(world.path)
    await world.watch.settled()
    world.path.unlink()
    if how == "binary":
        world.path.write_bytes(b"\xff\xfe")
    elif how == "directory":
        world.path.mkdir()
    elif how == "huge":
        monkeypatch.setattr("relay.users.reading.MAX_OCTETS", 3)
        world.path.write_bytes(b"#" * 10)
    assert str(world.path) in await world.told(1)
    looks = world.watch.looks
    await until(lambda: world.watch.looks > looks + 5)
    assert len(world.events.texts) == 1 == world.events.metrics.users_errors.values[()]
    assert world.learner.learned == [["anna"]]
    monkeypatch.undo()
    monkeypatch.setattr(users_watch, "LOOK", 0.005)
    if how == "directory":
        world.path.rmdir()
    world.write("anna", "bert")
    await world.learned("anna", "bert")


async def test_a_wrong_line_is_named(world: World) -> None:
    """With file and line; the others may log in."""
    world.write("anna", extra="bert:geheim\n")
    world.watch.configure(world.path)
    await world.watch.settled()
    assert world.learner.learned == [["anna"]]
    assert (await world.told(1)).startswith(f"{world.path}:2: ")
    assert "geheim" not in world.events.texts[0]


async def test_a_file_for_everybody_is_warned_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what can be guessed at in peace."""
    open_machine(monkeypatch)
    world.write("anna")
    world.path.chmod(0o644)
    world.watch.configure(world.path)
    assert f"everybody on this machine can read {world.path}" in await world.told(1)
    assert world.learner.learned == [["anna"]]


async def test_without_a_file_nobody_is_known(world: World) -> None:
    """Not yet there at the start: logins cannot be checked (454) until it is."""
    world.watch.configure(world.path)
    await world.watch.settled()
    assert (await world.learner.check("192.0.2.1", "anna", "geheim")).result == "error"
    assert len(world.events.texts) == 1
    world.write("anna")
    await world.learned("anna")
    assert (await world.learner.check("192.0.2.1", "anna", "geheim")).result == "ok"
    world.watch.configure(None)
    assert (await world.learner.check("192.0.2.1", "anna", "other")).result == "error"


async def test_another_file_after_a_reload(world: World, tmp_path: Path) -> None:
    """The old users hold until the new file was read; the same file is not begun anew."""
    world.write("anna")
    world.watch.configure(world.path)
    await world.watch.settled()
    world.watch.configure(world.path)
    other = tmp_path / "other"
    other.write_text(f"bert:{LINE}\n")
    other.chmod(0o600)
    world.watch.configure(other)
    assert world.learner.learned == [["anna"]]
    await world.learned("bert")
