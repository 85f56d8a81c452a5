"""What a campaign knows when it is over: who sent what, what arrived, what is left, what was done.

All values, no behaviour but reading and writing: `History` is what checker.py judges. Times are seconds of
the wall clock. A letter's id stands in each of its addresses: every row, log line and report names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter as its client knows it.

    digest: SHA-256 of its bytes. recipients: those answered 2xx; refused: the others. code: the reply to the
    final dot (or to what went wrong before it), 0: none came.
    """

    id: str
    digest: str
    sender: str
    recipients: tuple[str, ...]
    refused: tuple[str, ...] = ()
    code: int = 0
    queue_id: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A transaction that the next hop answered 2xx. digest: of the bytes below our Received header."""

    id: str
    queue_id: str
    recipients: tuple[str, ...]
    digest: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Notice:
    """A bounce about recipients of letter `id`. queue_id: its own; waiting: it is still in the queue."""

    id: str
    queue_id: str
    recipients: tuple[str, ...]
    waiting: bool = False
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry of the queue after the drain. state: as `relay queue list --json` names it."""

    id: str
    queue_id: str
    recipients: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class Removal:
    """An operator's `drop`, whether its answer came or not."""

    queue_id: str
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the relay. in_flight: queue ids of the entries leased at that moment, None: not known;
    counted: what relay_possible_duplicates_total said after it, 0 when the next start did not live to say;
    corrupts: bytes at rest were changed, so quarantine is expected."""

    kind: str
    at: float = 0.0
    in_flight: tuple[str, ...] | None = ()
    counted: int = 0
    corrupts: bool = False


@dataclass(slots=True)
class History:
    sent: dict[str, Sent] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    named: list[Removal] = field(default_factory=list)  # by salvage, as what cannot be brought back

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> History:
        return History(
            {name: _made(Sent, value) for name, value in data["sent"].items()},
            [_made(Arrival, value) for value in data["arrivals"]],
            [_made(Notice, value) for value in data["notices"]],
            [_made(Waiting, value) for value in data["waiting"]],
            [_made(Removal, value) for value in data["removals"]],
            [_made(Fault, value) for value in data["faults"]],
            [_made(Removal, value) for value in data.get("named", [])],
        )


Noun = TypeVar("Noun", Sent, Arrival, Notice, Waiting, Removal, Fault)


def append(path: Path, noun: Sent | Arrival | Notice | Removal | Fault) -> None:
    """One line more in a log; it outlives this process."""
    line = json.dumps(asdict(noun)).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        file.write(line)


def read(path: Path, kind: type[Noun]) -> Iterator[Noun]:
    """The lines of a log, [] where there is none. A last line cut short is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for line in lines:
        yield _made(kind, json.loads(line))


def by_id(sent: Iterable[Sent]) -> dict[str, Sent]:
    """The last that was written about each letter."""
    return {letter.id: letter for letter in sent}


def _made(kind: type[Noun], values: dict[str, Any]) -> Noun:
    frozen: dict[str, Any] = {}
    for name, value in values.items():
        frozen[name] = tuple(value) if isinstance(value, list) else value
    return kind(**frozen)
