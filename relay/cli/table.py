"""`relay queue list` and `lanes` for people, printed as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from relay.cli.story import beside, lane_standing
from relay.cli.terminal import columns, fitted
from relay.cli.words import cut, octets, short

FIXED = {"ID": 11, "AGE": 4, "SIZE": 8, "STATE": 10, "TRIES": 5, "NEXT": 7}
GAP = 2
ADDRESS = 30  # columns for each of sender and recipients beside a reply, and where the output is no terminal
ONE_LINE = 180  # columns; on a narrower terminal the reply has a line of its own
ALL_FIXED = 100  # columns; on a narrower terminal SIZE and TRIES are left out
LANE, COUNTS = 40, 25  # columns of a lane's name where there is room, of the numbers beside it


@dataclass(frozen=True)
class Layout:
    """fixed: which of FIXED; address: columns for each of sender, recipients; reply: for it, 0: no limit;
    below: the reply stands on a line of its own."""

    fixed: tuple[str, ...] = tuple(FIXED)
    address: int = ADDRESS
    reply: int = 0
    below: bool = False

    @classmethod
    def now(cls) -> Layout:
        """What suits the output."""
        width = columns()
        return cls.of(width) if width else cls()

    @classmethod
    def of(cls, width: int) -> Layout:
        """What suits a terminal of so many columns."""
        below = width < ONE_LINE
        fixed = tuple(name for name in FIXED if width >= ALL_FIXED or name not in ("SIZE", "TRIES"))
        left = width - sum(FIXED[name] + GAP for name in fixed) - GAP
        if below:
            return cls(fixed, max(12, left // 2), max(12, width - 2 * GAP), below)
        address = min(ADDRESS, (left - GAP) * 3 // 10)
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
        "NEXT": following(item["next_attempt"], now, lane.get("until", 0.0), bool(lane.get("rate_until"))),
    }
    sender = "<>" if item["sender"] == "MAILER-DAEMON" else item["sender"]
    waits = item["next_attempt"] is not None
    said = reply or (lane_standing(lane, now) if waits else "")
    return line(cells, sender, f"{cut(first, layout.address - len(more))}{more}", said, layout)


def following(when: float | None, now: float, probe: float, rated: bool = False) -> str:
    """The next attempt in one word. probe: a suspended lane sends nothing before; 0.0: it is not. rated: what
    is due waits for the rate of its lane."""
    if when is None:
        return "-"
    when = max(when, probe)
    if when > now:
        return f"in {short(ceil(when - now))}"
    return "rate" if rated else "now"


def line(cells: Mapping[str, str], sender: str, recipients: str, reply: str, layout: Layout) -> str:
    parts = [cells[name].ljust(FIXED[name]) for name in layout.fixed]
    parts += [cut(text, layout.address).ljust(layout.address) for text in (sender, recipients)]
    last = cut(reply, layout.reply)
    gap = " " * GAP
    if not layout.below:
        return gap.join((*parts, last)).rstrip()
    first = gap.join(parts).rstrip()
    return f"{first}\n{gap * 2}{last}" if last else first


def lane_lines(item: dict[str, Any], now: float, width: int) -> Iterator[str]:
    """One lane: how much waits, since when; what it waits for, and what is wrong with its next hops. width:
    columns of the terminal, each text on lines of its own; 0: all of it on one line."""
    states = item["states"]
    waiting = sum(states[name]["messages"] for name in ("incoming", "active", "deferred"))
    since = [tally["oldest"] for tally in states.values() if tally["oldest"]]  # 0 of what is out: not known
    age = short(now - min(since)) if since else "-"
    state = item["lane_state"]
    texts = [cut(text, 0) for text in (lane_standing(state, now), *beside(state, now)) if text]
    line = _lane_line(item["lane"], waiting, states["hold"]["messages"], age, width)
    if not width:
        yield f"{line}  {'; '.join(texts)}".rstrip()
        return
    yield line
    yield from fitted((f"{' ' * GAP}{text}" for text in texts), width)


def lane_head(width: int) -> str:
    line = _lane_line("LANE", "WAITING", "HELD", "AGE", width)
    return line if width else f"{line}  NEXT HOP"


def _lane_line(lane: str, waiting: int | str, held: int | str, age: str, width: int) -> str:
    most = max(12, min(LANE, width - COUNTS)) if width else LANE
    return f"{cut(lane, most if width else 0):{most}}  {waiting:>8}  {held:>6}  {age:>5}"
