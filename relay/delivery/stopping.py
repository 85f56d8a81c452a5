"""The orderly end: nothing new, what is past the final dot may finish, everything settled before the
return."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay.delivery.lane import Lane
from relay.delivery.pool import Link
from relay.delivery.tools import Tools

_STEP = 0.01  # seconds between two looks
_GRACE = 2.0  # seconds for reports and farewells after the last transaction was cut


async def stop(lanes: Sequence[Lane], tools: Tools, seconds: float) -> None:
    """tools.stopping is set. Returns when every entry in hand is settled, at the latest _GRACE after
    `seconds`."""
    end = asyncio.get_running_loop().time() + seconds
    links = [link for lane in lanes for link in (*lane.links.idle, *lane.links.busy)]
    await _cancel_openings(tools)
    for lane in lanes:
        lane.give_back()
    _abort(lanes, only_before_dot=True)
    await _settled(tools, end)
    _abort(lanes, only_before_dot=False)
    await _settled(tools, end + _GRACE)
    await _farewells(links, end)


async def _cancel_openings(tools: Tools) -> None:
    opening = list(tools.opening)
    for task in opening:
        task.cancel()
    await asyncio.gather(*opening, return_exceptions=True)


def _abort(lanes: Sequence[Lane], only_before_dot: bool) -> None:
    for lane in lanes:
        for link, attempt in list(lane.links.busy.items()):
            if not (only_before_dot and link.past_dot):
                attempt.aborted = True
                link.abort()


async def _settled(tools: Tools, end: float) -> None:
    # A look every 10 ms, once in a life, instead of a signal on every hot path.
    while tools.settling.held and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
        await asyncio.sleep(_STEP)


async def _farewells(links: Sequence[Link], end: float) -> None:
    """Connections that are saying QUIT get a little time for it."""
    if links:
        rest = end - asyncio.get_running_loop().time()
        closings = [asyncio.ensure_future(link.wait_closed()) for link in links]
        _, late = await asyncio.wait(closings, timeout=min(max(rest, 0.0), _GRACE))
        for closing in late:
            closing.cancel()
