"""Durations, sizes and times in words; texts cut to a width."""

from __future__ import annotations

import time

from relay.observe.text import printable

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def short(seconds: float) -> str:
    """One unit: 45s, 12m, 3h, 2d."""
    seconds = max(0.0, seconds)
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


def exact(seconds: float) -> str:
    """Two units: "2 h 5 min", "45 s"."""
    left = int(max(0.0, seconds))
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts) or "0 s"


def octets(size: int) -> str:
    """512 B, 1.5 KiB, 20 MiB."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"


def moment(when: float, now: float) -> str:
    """Local time; with the date when it is not today."""
    form = "%H:%M:%S" if time.localtime(when)[:3] == time.localtime(now)[:3] else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(when))


def cut(text: str, width: int) -> str:
    """Safe for a terminal, not longer than width; width 0: as long as it is."""
    text = printable(text)
    return text if not width or len(text) <= width else f"{text[: width - 1]}…"


def peer(host: str) -> str:
    """A next hop as logs name it, "name[address]:port"; where the name is the address, that once."""
    name, bracket, rest = host.partition("[")
    if not bracket or not rest.startswith(f"{name}]"):
        return host
    return f"[{name}]{rest[len(name) + 1 :]}" if ":" in name else f"{name}{rest[len(name) + 1 :]}"
