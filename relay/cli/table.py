"""`relay queue list` and `lanes` for people, printed as it comes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.cli.story import fault_line, lane_standing
from relay.cli.words import cut, octets, short

FIXED = {"ID": 11, "AGE": 4, "SIZE": 8, "STATE": 10, "TRIES": 5, "NEXT": 7}
GAP = 2
LEAST = 30  # columns for each of sender and recipients where the output is no terminal
ONE_LINE = 120  # columns; on a narrower terminal SIZE and TRIES are left out and the reply has its own line


@dataclass(frozen=True)
class Layout:
    """fixed: which of FIXED; address: columns for each of sender, recipients; reply: for it, 0: no limit;
    below: the reply stands on a line of its own."""

    fixed: tuple[str, ...] = tuple(FIXED)
    address: int = LEAST
    reply: int = 0
    below: bool = False

    @classmethod
    def now(cls) -> Layout:
        """What suits the output."""
        return cls.of(shutil.get_terminal_size().columns) if sys.stdout.isatty() else cls()

    @classmethod
    def of(cls, columns: int) -> Layout:
        """What suits a terminal."""
        below = columns < ONE_LINE
        fixed = tuple(name for name in FIXED if not (below and name in ("SIZE", "TRIES")))
        left = columns - sum(FIXED[name] + GAP for name in fixed) - GAP
        if below:
            return cls(fixed, max(12, left // 2), max(12, columns - 2 * GAP), below)
        address = (left - GAP) * 3 // 10
        return cls(fixed, address, left - GAP - 2 * address, below)


def head(layout: Layout) -> str:
    names = {name: name for name in FIXED}
    return line(names, "SENDER", "RECIPIENTS", "" if layout.below else "LAST REPLY", layout)


def row(item: dict[str, Any], now: float, layout: Layout) -> str:
    """One object of the list (relay/admin/shape.py). Without a reply: what its lane waits for."""
    recipients = item["recipients"]
    first = recipients[0]["address"] if recipients else ""
    more = f" (+{len(recipients) - 1})" if len(recipients) > 1 else ""
    lane = item.get("lane_state", {})
    reply = next((each["delay_reason"] for each in recipients if "delay_reason" in each), "")
    cells = {
        "ID": item["queue_id"],
        "AGE": short(now - item["arrival_time"]),
        "SIZE": octets(item["message_size"]),
        "STATE": item["state"],
        "TRIES": str(item["attempts"]),
        "NEXT": following(item["next_attempt"], now, lane.get("until", 0.0)),
    }
    sender = "<>" if item["sender"] == "MAILER-DAEMON" else item["sender"]
    waits = item["next_attempt"] is not None
    said = reply or (lane_standing(lane, now) if waits else "")
    return line(cells, sender, f"{cut(first, layout.address - len(more))}{more}", said, layout)


def following(when: float | None, now: float, probe: float) -> str:
    """The next attempt in one word. probe: a suspended lane sends nothing before; 0.0: it is not."""
    if when is None:
        return "-"
    when = max(when, probe)
    return "now" if when <= now else f"in {short(when - now)}"


def line(cells: Mapping[str, str], sender: str, recipients: str, reply: str, layout: Layout) -> str:
    parts = [cells[name].ljust(FIXED[name]) for name in layout.fixed]
    parts += [cut(text, layout.address).ljust(layout.address) for text in (sender, recipients)]
    last = cut(reply, layout.reply)
    gap = " " * GAP
    if not layout.below:
        return gap.join((*parts, last)).rstrip()
    first = gap.join(parts).rstrip()
    return f"{first}\n{gap * 2}{last}" if last else first


def lane_line(item: dict[str, Any], now: float) -> str:
    """One lane: how much waits, since when, and what it waits for."""
    states = item["states"]
    waiting = sum(states[name]["messages"] for name in ("incoming", "active", "deferred"))
    since = [tally["oldest"] for tally in states.values() if tally["messages"]]
    age = short(now - min(since)) if since else "-"
    state = item["lane_state"]
    faults = (fault_line(fault, now) for fault in state.get("faults", ()))
    standing = lane_standing(state, now) or "; ".join(faults)
    held = states["hold"]["messages"]
    return f"{cut(item['lane'], 40):40}  {waiting:>8}  {held:>6}  {age:>5}  {cut(standing, 0)}".rstrip()


LANE_HEAD = f"{'LANE':40}  {'WAITING':>8}  {'HELD':>6}  {'AGE':>5}  NEXT HOP"
