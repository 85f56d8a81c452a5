"""FakeQueue: rows in a list, with the calls that operators use, and the numbers a scrape reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailqueue.damaged import Lost
from mailqueue.entry import Filter, LaneTally, Recipient, Row, State, Tally, message_name
from mailqueue.errors import QueueError
from mailqueue.salvage import Salvaged

EPOCH = 1_700_000_000.0


@dataclass(frozen=True)
class FakeSpace:
    free_bytes: int = 10**9
    free_inodes: int = 10**6
    full: bool = False


def row(
    number: int, state: State = State.DEFERRED, sender: str = "alice@corp.example", **fields: object
) -> Row:
    """A plausible row; `fields` replace what stands here."""
    facts: dict[str, object] = {
        "id": number,
        "message": message_name(10**15 + number),
        "lane": "mx:example.org",
        "state": state,
        "due": EPOCH + 600,
        "attempts": 2,
        "crashes": 0,
        "accepted": EPOCH - 7500,
        "sender": sender,
        "size": 12_345,
        "recipients": [Recipient("bob@example.org", "", "451 4.7.1 try later")],
    }
    return Row(**(facts | fields))  # type: ignore[arg-type]  # the fields of Row by name


@dataclass
class FakeQueue:
    rows: list[Row] = field(default_factory=list)
    contents: dict[str, bytes | Path] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    tallies: dict[State, Tally] = field(default_factory=dict)
    room: FakeSpace = field(default_factory=FakeSpace)
    largest_page: int = 0
    closed: bool = False
    aside: set[str] = field(default_factory=set)  # directories that can be salvaged

    async def search(self, f: Filter, after: int = 0, limit: int = 1000) -> Sequence[Row]:
        found = [each for each in self.rows if each.id > after and matches(each, f)][:limit]
        self.largest_page = max(self.largest_page, len(found))
        return found

    async def count(self, f: Filter) -> int:
        return sum(matches(each, f) for each in self.rows)

    async def hold(self, f: Filter) -> int:
        return self._change(f, State.HELD)

    async def release(self, f: Filter) -> int:
        return self._change(f, State.INCOMING)

    async def retry(self, f: Filter) -> int:
        return self._change(f, State.INCOMING)

    async def drop(self, f: Filter) -> int:
        before = len(self.rows)
        self.rows = [each for each in self.rows if not matches(each, f)]
        return before - len(self.rows)

    def _change(self, f: Filter, state: State) -> int:
        chosen = [each for each in self.rows if matches(each, f)]
        for each in chosen:
            each.state = state
        return len(chosen)

    async def lanes(self, after: str = "", limit: int = 1000) -> Sequence[LaneTally]:
        names = sorted({each.lane for each in self.rows if each.lane > after})[:limit]
        return [self.lane_tally(name) for name in names]

    def lane_tally(self, lane: str) -> LaneTally:
        states: dict[State, Tally] = {}
        for each in self.rows:
            if each.lane == lane:
                tally = states.setdefault(each.state, Tally(oldest=each.accepted))
                tally.entries += 1
                tally.bytes += each.size
        return LaneTally(lane, states, EPOCH + 600)

    async def read_content(self, name: str) -> bytes | Path | None:
        if name in self.damaged:
            raise QueueError(f"{name} cannot be shown: its content file is missing")
        return self.contents.get(name)

    async def salvage(self, directory: Path, dry_run: bool = False) -> AsyncIterator[Salvaged]:
        if directory.name not in self.aside:
            raise FileNotFoundError(2, "No such file or directory", str(directory))
        yield Salvaged(found=2, brought_back=2, lost=[Lost("abc", "gone")])

    def stats(self) -> dict[State, Tally]:
        return self.tallies

    def space(self) -> FakeSpace:
        return self.room


def matches(each: Row, f: Filter) -> bool:
    """The fields of Filter that the tests use."""
    return (
        f.message in ("", each.message)
        and f.sender in ("", each.sender, "@" + each.sender.partition("@")[2])
        and f.lane in ("", each.lane)
        and (not f.states or each.state in f.states)
    )
