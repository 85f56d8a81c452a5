"""What delivery needs of its neighbours: the queue, the route table, the clock, the writer of reports."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from mailqueue.entry import Entry, Loaded, Message, Recipient
from relay.config.model import Config
from relay.envelope import Envelope
from relay.routing.table import LanePolicy

if TYPE_CHECKING:
    from relay.delivery.attempt import Conclusion


class Clock(Protocol):
    """time(): epoch seconds; monotonic(): seconds that only grow."""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...


class Queue(Protocol):
    """What is needed of mailqueue.Queue."""

    admit: Callable[[str], bool]
    unadmit: Callable[[str], None]
    on_leased: Callable[[Entry], None]
    on_due: Callable[[str], None]
    on_wake: Callable[[], None]

    def take(
        self, lane: str, n: int, older_than: float = 0.0, from_future: bool = False
    ) -> Future[list[Entry]]: ...
    def load_now(self, entry: Entry) -> Loaded | None: ...
    def claim(self, n: int, now: float) -> list[str]: ...
    def claim_lane(self, lane: str) -> None: ...
    def unclaim(self, lane: str, not_before: float = 0.0) -> None: ...
    def next_due(self, lane: str) -> float | None: ...
    def next_wake(self) -> float | None: ...

    def settle(
        self,
        entry: Entry,
        remaining: Sequence[Recipient] = (),
        *,
        due: float = 0.0,
        counted: bool = True,
        reports: Sequence[Message] = (),
        lane: str | None = None,
    ) -> None: ...

    async def load(self, entry: Entry) -> Loaded | None: ...
    def quarantine(self, entry: Entry, reason: str) -> None: ...


class Table(Protocol):
    """What is needed of routing.table.RouteTable."""

    def lane(self, sender: str, recipient: str) -> str: ...
    def policy(self, lane: str) -> LanePolicy | None: ...


class Reporter(Protocol):
    """Writes the reports of a round (promise 9 and RFC 3461 decide which)."""

    limit: int  # octets of content it can use

    def renew(self, config: Config, table: Table) -> None: ...

    def wanted(self, entry: Entry, envelope: Envelope, conclusion: Conclusion) -> bool: ...

    def write(
        self,
        entry: Entry,
        envelope: Envelope,
        conclusion: Conclusion,
        content: bytes,
        complete: bool,
        now: float,
    ) -> list[Message]: ...
