"""The trace header on top of every message (RFC 5321 section 4.4), and the headers we may add below it.
Pure."""

from __future__ import annotations

import re
import time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_last = (-1, "")  # the second that was formatted last, and its text


def date_text(now: float) -> str:
    """Seconds since the epoch -> RFC 5322 date-time, in UTC. Formatted once a second."""
    global _last
    second = int(now)
    known, text = _last
    if known != second:
        year, month, day, hour, minute, sec, weekday, _, _ = time.gmtime(second)
        text = f"{_DAYS[weekday]}, {day} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{sec:02} +0000"
        _last = second, text
    return text


def helo_text(helo: str) -> str:
    """What the client called itself, safe inside a header: anything that is not part of a name becomes
    "?"."""
    return _UNSAFE.sub("?", helo)


def address_literal(address: str) -> str:
    """192.0.2.1 -> [192.0.2.1]; 2001:db8::1 -> [IPv6:2001:db8::1] (RFC 5321 4.1.3)."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def received_line(origin: str, hostname: str, protocol: str, name: str, recipient: str, now: float) -> bytes:
    """origin: `helo ([address])`, made once a session; recipient "": no `for` clause (more than one, RFC 5321
    7.6)."""
    reason = f"\r\n\tfor <{recipient}>" if recipient else ""
    return (
        f"Received: from {origin}\r\n\tby {hostname} (relay) with {protocol} id {name}{reason};"
        f" {date_text(now)}\r\n"
    ).encode()


def date_line(now: float) -> bytes:
    return f"Date: {date_text(now)}\r\n".encode()


def message_id_line(name: str, hostname: str) -> bytes:
    return f"Message-ID: <{name}@{hostname}>\r\n".encode()
