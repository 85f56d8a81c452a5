"""`relay queue list` and `lanes` for people: one line each, printed as it comes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from typing import Any

from relay.cli.story import lane_trouble
from relay.cli.words import cut, octets, short

FIXED = (("ID", 12), ("AGE", 5), ("SIZE", 8), ("STATE", 10), ("TRIES", 5), ("NEXT", 7))
GAP = 2
LEAST = 30  # columns for each of sender, recipient and reply where the output is no terminal


def widths() -> tuple[int, int, int]:
    """Columns for sender, recipients and reply (0: no limit)."""
    if not sys.stdout.isatty():
        return LEAST, LEAST, 0
    left = shutil.get_terminal_size().columns - sum(width + GAP for _, width in FIXED) - 2 * GAP
    sender = max(12, left * 3 // 10)
    return sender, sender, max(12, left - 2 * sender)


def head(columns: tuple[int, int, int]) -> str:
    return line([name for name, _ in FIXED], ("SENDER", "RECIPIENTS", "LAST REPLY"), columns)


def row(item: dict[str, Any], now: float, columns: tuple[int, int, int]) -> str:
    """One object of the list (relay/admin/shape.py)."""
    recipients = item["recipients"]
    first = recipients[0]["address"] if recipients else ""
    more = f" (+{len(recipients) - 1})" if len(recipients) > 1 else ""
    reply = next((each["delay_reason"] for each in recipients if "delay_reason" in each), "")
    return line(
        (
            item["queue_id"],
            short(now - item["arrival_time"]),
            octets(item["message_size"]),
            item["state"],
            str(item["attempts"]),
            following(item["next_attempt"], now),
        ),
        ("<>" if item["sender"] == "MAILER-DAEMON" else item["sender"], f"{first}{more}", reply),
        columns,
    )


def following(when: float | None, now: float) -> str:
    """The next attempt in one word."""
    if when is None:
        return "-"
    return "now" if when <= now else f"in {short(when - now)}"


def line(fixed: Iterable[str], free: tuple[str, str, str], columns: tuple[int, int, int]) -> str:
    cells = [text.ljust(width) for text, (_, width) in zip(fixed, FIXED, strict=True)]
    cells += [cut(text, width).ljust(width) for text, width in zip(free, columns, strict=True)]
    return (" " * GAP).join(cells).rstrip()


def lane_line(item: dict[str, Any], now: float) -> str:
    """One lane: how much waits, since when, and its trouble."""
    states = item["states"]
    waiting = sum(states[name]["messages"] for name in ("incoming", "active", "deferred"))
    since = [tally["oldest"] for tally in states.values() if tally["messages"]]
    age = short(now - min(since)) if since else "-"
    trouble = lane_trouble(item["lane_state"], now)
    held = states["hold"]["messages"]
    return f"{cut(item['lane'], 40):40}  {waiting:>8}  {held:>6}  {age:>5}  {cut(trouble, 0)}".rstrip()


LANE_HEAD = f"{'LANE':40}  {'WAITING':>8}  {'HELD':>6}  {'AGE':>5}  NEXT HOP"
