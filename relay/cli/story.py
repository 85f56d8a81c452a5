"""`relay queue show`: what a person needs to know about a message, in plain words. Pure: objects to lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

from relay.cli.words import exact, moment, octets, plural
from relay.observe.text import printable

REASONS = {
    "connect": "the next hop cannot be reached",
    "greeting": "the next hop turns us away at its greeting",
    "tls": "TLS with the next hop fails",
    "auth": "we cannot log in at the next hop",
    "token": "there is no token for the login",
    "dns": "DNS does not answer",
    "address": "the next hop's address is not one we may use",
    "capture": "the capture directory cannot be written",
    "limit": "the next hop asks for fewer connections",
}
REFUSED = "the next hop refuses our user name or password"


def story(entries: Sequence[dict[str, Any]], now: float) -> Iterator[str]:
    """The lines about one message: its entries as `show` answers them, all with the same queue_id."""
    first = entries[0]
    sender = first["sender"] if first["sender"] != "MAILER-DAEMON" else "<> (a notification)"
    yield f"Message {first['queue_id']}"
    yield f"  from      {printable(sender)}"
    yield f"  size      {octets(first['message_size'])}"
    arrived = first["arrival_time"]
    yield f"  accepted  {moment(arrived, now)}, {exact(now - arrived)} ago"
    for entry in entries:
        yield ""
        yield from _entry(entry, now)


def _entry(entry: dict[str, Any], now: float) -> Iterator[str]:
    yield f"By {printable(entry['lane'])}: {_standing(entry, now)}"
    for recipient in entry["recipients"]:
        yield f"  to {printable(recipient['address'])}"
        if "delay_reason" in recipient:
            yield f"    last reply: {printable(recipient['delay_reason'])}"
    yield f"  {_next(entry, now)}"
    state = entry.get("lane_state", {})
    standing = lane_standing(state, now)
    if standing:
        yield f"  {standing}"
    for fault in state.get("faults", ()):
        yield f"  {fault_line(fault, now)}"


def _standing(entry: dict[str, Any], now: float) -> str:
    tried = f"tried {plural(entry['attempts'], 'time')}" if entry["attempts"] else "not tried yet"
    words = {
        "incoming": "waiting for the first attempt",
        "active": f"being delivered now, {tried} before",
        "deferred": f"deferred, {tried}",
        "hold": f"held, {tried}",
        "quarantine": "in quarantine: it cannot be read without error and is never sent",
    }
    return words[entry["state"]]


def _next(entry: dict[str, Any], now: float) -> str:
    if entry["state"] == "hold":
        why = " (it was in flight when the relay crashed)" if entry["crashes"] else ""
        return f"no next try: on hold until released{why}"
    if entry["state"] == "quarantine":
        return "no next try"
    if entry["next_attempt"] is None:
        return "this attempt is under way"
    due = entry["next_attempt"]
    lane = entry.get("lane_state", {})
    if lane.get("state") in ("suspended", "probing") and due <= max(now, lane["until"]):
        return f"next try: when the next hop is back (due {moment(due, now)})"
    if due <= now:
        return f"next try: due since {moment(due, now)}, waiting for its turn"
    return f"next try in {exact(due - now)}, at {moment(due, now)}"


def lane_standing(state: dict[str, Any], now: float) -> str:
    """Why mail of a lane waits: its trouble, or its rate (also of one that recovers). "": neither."""
    trouble = lane_trouble(state, now)
    if not state.get("rate_until") or (trouble and state.get("state") != "ramping"):
        return trouble
    seconds = ceil(state["rate_until"] - now)
    when = f"in {exact(seconds)}" if seconds > 0 else "now"
    return f"the lane waits for its rate ({state['rate']}): the next message goes {when}"


def _reason(reason: str, reply: str) -> str:
    """In words. reply: begins with a code where the next hop spoke, else we found it ourselves."""
    if reason == "auth" and reply[:3].isdecimal():
        return REFUSED if reply.startswith("5") else "the next hop puts our login off"
    return REASONS.get(reason, reason)


def fault_line(fault: dict[str, Any], now: float) -> str:
    """A standing fault of one next hop (relay/delivery/state.py)."""
    words = _reason(fault["reason"], fault["reply"])
    since = f"since {moment(fault['since'], now)} ({exact(now - fault['since'])})"
    left = ceil(fault["until"] - now)
    again = f"asked again in {exact(left)}" if left > 0 else "asked again now"
    return f"{printable(fault['host'])} is at fault {since}: {words} ({printable(fault['reply'])}); {again}"


def lane_trouble(state: dict[str, Any], now: float) -> str:
    """What delivery knows of the lane (relay/delivery/state.py), "" when it is well or nothing is known."""
    reason, health = state.get("reason", ""), state.get("state", "")
    if not reason:
        return ""
    by = f"{state['host']}: " if state.get("host") else ""
    said = state.get("reply", "")
    words = f"{_reason(reason, said)} ({printable(by + said)})"
    if health == "ramping":
        return f"the lane recovers: {words} until a moment ago"
    since = f" for {exact(now - state['since'])}" if state.get("since") else ""
    until = state.get("until", 0.0)
    probe = (
        f"probing again in {exact(ceil(until - now))}"
        if until > now and health != "probing"
        else "probing now"
    )
    return f"the lane is suspended{since}: {words}; {probe}"
