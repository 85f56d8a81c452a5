"""Durations, sizes and rates as people write them, and back.

Durations are seconds (float), sizes are octets (int), rates are so many in so many seconds. ValueError
messages end by saying what to write.
"""

from __future__ import annotations

import re

LONGEST = 3650 * 86400.0  # ten years, in seconds
LARGEST = 2**60

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)\s*")
_OCTETS = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_PERIODS = {
    word: seconds
    for words, seconds in (
        ("s sec second", 1.0),
        ("m min minute", 60.0),
        ("h hour", 3600.0),
        ("d day", 86400.0),
    )
    for word in words.split()
}
_RATE = re.compile(r"([1-9][0-9]{0,8})\s*/\s*([a-z]+)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_duration(text: str) -> float:
    """ "25s", "5m", "1h30m", "5d" -> seconds; "0" is 0."""
    if text.strip() == "0":
        return 0.0
    total, position = 0.0, 0
    while match := _PART.match(text, position):
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if not position or position != len(text):
        raise ValueError(_duration_advice(text))
    if total > LONGEST:
        raise ValueError(f"{text!r} is longer than ten years; write at most 3650d")
    return total


def _duration_advice(text: str) -> str:
    number = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(.*)", text)
    if number and not number[2]:
        return f"{text} has no unit; write {number[1]}s, {number[1]}m, {number[1]}h or {number[1]}d"
    if number and (unit := _near_unit(number[2])):
        return f"{text!r} is not a duration; write {number[1]}{unit}"
    return f"{text!r} is not a duration; write it as 30s, 5m, 1h30m or 5d"


def _near_unit(word: str) -> str:
    """ "minutes" -> "m", "sec" -> "s"; "" when it is no such word."""
    names = {"milliseconds": "ms", "seconds": "s", "minutes": "m", "hours": "h", "days": "d", "weeks": "w"}
    word = word.strip().lower()
    return next((unit for name, unit in names.items() if word and name.startswith(word) and word != "m"), "")


def parse_size(text: str) -> int:
    """ "50MiB", "1.5 GiB", "10MB", "4096" -> octets."""
    match = _SIZE.fullmatch(text.strip())
    if not match or match[2].lower() not in _OCTETS:
        raise ValueError(_size_advice(text, match))
    octets = (
        int(float(match[1]) * _OCTETS[match[2].lower()])
        if "." in match[1]
        else int(match[1][:20]) * _OCTETS[match[2].lower()]
    )
    if octets > LARGEST:
        raise ValueError(f"{text!r} is larger than 1024PiB; write a smaller size")
    return octets


def _size_advice(text: str, match: re.Match[str] | None) -> str:
    if match and match[2].lower() in ("k", "m", "g", "t"):
        letter = match[2].upper()
        return f"{text!r} does not say which unit it means; write {match[1]}{letter}iB or {match[1]}{letter}B"
    return f"{text!r} is not a size; write it as 4096, 512KiB, 50MiB or 1GiB"


def parse_rate(text: str) -> tuple[int, float]:
    """ "30/min", "10/s", "10000/d" -> how many, in how many seconds."""
    match = _RATE.fullmatch(text.strip().lower())
    if not match or match[2] not in _PERIODS:
        raise ValueError(f"{text!r} is not a rate; write it as 10/s, 30/min, 1000/h or 10000/d")
    return int(match[1]), _PERIODS[match[2]]


def check_rate(text: str) -> str:
    """A rate, as written."""
    parse_rate(text)
    return text


def format_rate(count: int, period: float) -> str:
    """(30, 60.0) -> "30/min"."""
    return f"{count}/{ {1.0: 's', 60.0: 'min', 3600.0: 'h', 86400.0: 'd'}[period] }"


def format_duration(seconds: float) -> str:
    """The shortest exact way to write it: 90 -> "1m30s"."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def format_size(octets: int) -> str:
    """The largest binary unit that fits exactly: 52428800 -> "50MiB"."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if octets and octets % 1024**power == 0:
            return f"{octets // 1024**power}{unit}"
    return str(octets)
