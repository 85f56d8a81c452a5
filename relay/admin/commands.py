"""What an operator can ask for: list, show, lanes, status, explain; retry, hold, release, drop; salvage.

`answer` turns one request into pages of JSON-ready objects; the last has "end". Used by the daemon's control
socket and, with the spool opened directly, by the command line. Lists are read page by page, so memory stays
flat however long the queue is, and the loop goes on between pages.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any, Protocol

from mailqueue.entry import Filter, LaneTally, Row, State, Tally
from mailqueue.errors import QueueError
from mailqueue.salvage import Salvaged
from relay.admin.content import plain_blocks
from relay.admin.request import NO_INPUT, UNAVAILABLE, Refused, Selection, field, selection
from relay.admin.salvage import salvage
from relay.admin.shape import lane_object, row_object, tallies_object

FIRST_PAGE, PAGE = 50, 500  # rows: the first page is small so that something is seen at once
CHANGES = ("retry", "hold", "release", "drop")

Page = list[dict[str, Any]]


class OperatorQueue(Protocol):
    """The part of the queue an operator works with."""

    async def search(self, f: Filter, after: int = 0, limit: int = 1000) -> Sequence[Row]: ...
    async def count(self, f: Filter) -> int: ...
    async def retry(self, f: Filter) -> int: ...
    async def hold(self, f: Filter) -> int: ...
    async def release(self, f: Filter) -> int: ...
    async def drop(self, f: Filter) -> int: ...
    async def lanes(self, after: str = "", limit: int = 1000) -> Sequence[LaneTally]: ...
    async def read_content(self, name: str) -> bytes | Path | None: ...
    def salvage(self, directory: Path, dry_run: bool = False) -> AsyncIterator[Salvaged]: ...
    def lane_tally(self, lane: str) -> LaneTally: ...
    def stats(self) -> Mapping[State, Tally]: ...


class Unavailable:
    """Stands for what only a running relay knows."""

    async def explain(self, recipient: str, sender: str) -> dict[str, Any]:
        raise Refused("the relay does not run", UNAVAILABLE)


def _nothing(lane: str) -> dict[str, Any]:
    return {}


@dataclass
class Commands:
    """lane_state: what delivery knows of a lane ({} where it knows nothing); explain: (recipient, sender) ->
    where mail would go; facts: what `status` adds; begins: told of a change before it is made, which may take
    a while (action); changed: told of it afterwards, (action, entries, filter).
    """

    queue: OperatorQueue
    lane_state: Callable[[str], dict[str, Any]] = _nothing
    explain: Callable[[str, str], Awaitable[dict[str, Any]]] = Unavailable().explain
    facts: Callable[[], dict[str, Any]] = dict
    begins: Callable[[str], None] = default(default=lambda action: None)
    changed: Callable[[str, int, str], None] = default(default=lambda action, entries, text: None)

    async def answer(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        """The pages of one answer. Refused for what cannot be done."""
        command = field(request, "command", str, "")
        if command in CHANGES:
            yield await self._change(command, request)
            return
        reader = {
            "list": self._list,
            "show": self._show,
            "lanes": self._lanes,
            "status": self._status,
            "explain": self._explain,
            "salvage": self._salvage,
        }.get(command)
        if reader is None:
            raise Refused(f"no command {command!r}")
        async for page in reader(request):
            yield page

    async def _list(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        count = 0
        async for rows in self._pages(selection(request)):
            count += len(rows)
            troubles = {lane: self._trouble(lane) for lane in {row.lane for row in rows}}
            yield [row_object(row) | troubles[row.lane] for row in rows]
        yield [{"end": True, "count": count}]

    def _trouble(self, lane: str) -> dict[str, Any]:
        """lane_state, where delivery knows why mail waits to which nothing was said: trouble, or a rate."""
        state = self.lane_state(lane)
        return {"lane_state": state} if state.get("reason") or state.get("rate_until") else {}

    async def _pages(self, chosen: Selection) -> AsyncIterator[Sequence[Row]]:
        for f in chosen.filters:
            after, limit = 0, FIRST_PAGE
            while rows := await self.queue.search(f, after, limit):
                yield rows
                after, limit = rows[-1].id, PAGE

    async def _show(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        """Each entry of the messages named, with the state of its lane; content, if asked, of the first."""
        chosen = selection(request)
        if not chosen.ids:
            raise Refused("show: which message?")
        found: Page = []
        async for rows in self._pages(chosen):
            found += [row_object(row) | {"lane_state": self.lane_state(row.lane)} for row in rows]
        there = {entry["queue_id"] for entry in found}
        missing = [name for name in chosen.ids if name.lower() not in there]
        if missing:
            raise Refused(f"{', '.join(missing)}: not in the queue", NO_INPUT)
        yield found
        if field(request, "content", bool, False):
            async for page in self._content(found[0]["queue_id"]):
                yield page
        yield [{"end": True, "count": len(found)}]

    async def _content(self, name: str) -> AsyncIterator[Page]:
        try:
            content = await self.queue.read_content(name)
        except QueueError as error:
            raise Refused(str(error), NO_INPUT) from None
        if content is None:
            raise Refused(f"{name}: the content cannot be read", NO_INPUT)
        async for block in plain_blocks(content):
            yield [{"content": base64.b64encode(block).decode()}]

    async def _lanes(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        after, count = "", 0
        while tallies := await self.queue.lanes(after, PAGE):
            yield [lane_object(tally) | {"lane_state": self.lane_state(tally.lane)} for tally in tallies]
            after = tallies[-1].lane
            count += len(tallies)
        yield [{"end": True, "count": count}]

    async def _status(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        yield [{"states": tallies_object(self.queue.stats()), **self.facts()}, {"end": True}]

    async def _explain(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        address = field(request, "address", str, "")
        if "@" not in address:
            raise Refused(f"{address!r} is not an address")
        facts = await self.explain(address, field(request, "from", str, ""))
        lane = str(facts.get("lane", ""))
        tally = lane_object(self.queue.lane_tally(lane))
        yield [{**facts, "lane_state": self.lane_state(lane), "queue": tally["states"]}, {"end": True}]

    async def _salvage(self, request: Mapping[str, Any]) -> AsyncIterator[Page]:
        totals: dict[str, int] = {}
        async for page in salvage(self.queue, request, totals):
            yield page
        if totals["brought_back"]:
            self.changed("salvage", totals["brought_back"], str(request["directory"]))
        yield [{"end": True, "directory": request["directory"], **totals}]

    async def _change(self, command: str, request: Mapping[str, Any]) -> Page:
        chosen = selection(request)
        if chosen.empty and not chosen.everything:
            raise Refused(f"{command}: which messages? Name ids or a filter, or say --all")
        if field(request, "dry_run", bool, False):
            return [{"end": True, "count": await self._each(self.queue.count, chosen), "dry_run": True}]
        act = {
            "retry": self.queue.retry,
            "hold": self.queue.hold,
            "release": self.queue.release,
            "drop": self.queue.drop,
        }[command]
        self.begins(command)
        count = await self._each(act, chosen)
        self.changed(command, count, str(chosen))
        return [{"end": True, "count": count}]

    async def _each(self, act: Callable[[Filter], Awaitable[int]], chosen: Selection) -> int:
        """For each id that was named, or for all that match: entries in all."""
        return sum([await act(f) for f in chosen.filters])
