"""`relay queue show`: what a person needs to know about a message, in plain words. Pure: objects to lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import Any

from relay.cli.words import exact, moment, octets, peer
from relay.observe.text import plural, printable

REASONS = {  # {}: the next hop
    "connect": "{} cannot be reached",
    "greeting": "{} turns us away at its greeting",
    "tls": "TLS with {} fails",
    "auth": "we cannot log in at {}",
    "token": "no token is to be had for the login at {}",
    "dns": "DNS does not answer",
    "address": "{} has an address that we may not use",
    "capture": "the capture directory cannot be written",
    "limit": "{} wants fewer connections",
}
REFUSALS = {  # by the whole code, or its first digit
    "530": "{} demands a login",
    "535": "{} refuses our user name or password",
    "5": "{} refuses our login",
    "4": "{} puts our login off",
}


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
    for text in (lane_trouble(state, now), *beside(state, now)):
        if text:
            yield f"  {text}"


def _standing(entry: dict[str, Any], now: float) -> str:
    tried = f"tried {plural(entry['attempts'], 'time')}" if entry["attempts"] else "not tried yet"
    words = {
        "incoming": "waiting for the first attempt",
        "active": f"being delivered now, {tried + ' before' if entry['attempts'] else 'for the first time'}",
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
        turn = rate_wait(lane, now) or "waiting for its turn"
        return f"next try: due since {moment(due, now)}, {turn}"
    return f"next try in {exact(due - now)}, at {moment(due, now)}"


def lane_standing(state: dict[str, Any], now: float) -> str:
    """Why mail of a lane waits: its trouble, or its rate (also of one that recovers). "": neither."""
    trouble = lane_trouble(state, now)
    if trouble and state.get("state") != "ramping":
        return trouble
    return rate_wait(state, now) or trouble


def rate_wait(state: dict[str, Any], now: float) -> str:
    """What a lane that waits for its rate waits for; "" when it does not."""
    if not state.get("rate_until"):
        return ""
    seconds = ceil(state["rate_until"] - now)
    when = f"in {exact(seconds)}" if seconds > 0 else "now"
    return f"waits for its rate ({state['rate']}): the lane's next message goes {when}"


def _trouble(reason: str, host: str, reply: str) -> str:
    """Who, what, and what was said. reply: begins with a code where the next hop spoke, else we found it
    ourselves."""
    words = REASONS.get(reason, f"{{}}: {reason}")
    if reason == "auth" and reply[:3].isdecimal():
        words = REFUSALS.get(reply[:3]) or REFUSALS.get(reply[0], words)
    told = words.format(peer(printable(host)) or "the next hop")
    return f"{told}: {printable(reply)}" if reply else told


def fault_line(fault: dict[str, Any], now: float) -> str:
    """A standing fault of one next hop (relay/delivery/state.py)."""
    words = _trouble(fault["reason"], fault["host"], fault["reply"])
    since = f"at fault since {moment(fault['since'], now)}, {exact(now - fault['since'])}"
    left = ceil(fault["until"] - now)
    again = f"asked again in {exact(left)}" if left > 0 else "asked again now"
    return f"{words} ({since}; {again})"


def beside(state: dict[str, Any], now: float) -> Iterator[str]:
    """What is to be said of a lane after its trouble: the other hosts at fault, and what to mend."""
    faults = state.get("faults", ())
    told = state.get("reason"), state.get("host")
    yield from (fault_line(fault, now) for fault in faults if (fault["reason"], fault["host"]) != told)
    yield from remedies(faults)


def remedies(faults: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Where an operator mends faults, once for each place. Paths and names, never a secret."""
    yield from dict.fromkeys(text for text in map(_remedy, faults) if text)


def _remedy(fault: dict[str, Any]) -> str:
    if "login_by" not in fault:  # of an older relay that still runs
        return ""
    files = " and ".join(map(printable, fault["files"]))
    route, user = printable(fault["route"]), printable(fault["username"])
    if fault["reason"] == "tls":
        return f"certificates are checked by {files} (ca_file of route {route})" if files else ""
    if not user:
        return f"route {route} has no username to log in with"
    what = "password" if fault["login_by"] == "password" else "secret"
    if files:
        return f"the {what} of {user} is in {files}, read again when it changes"
    return f"the {what} of {user} stands in the configuration of route {route}; reload when it is changed"


def lane_trouble(state: dict[str, Any], now: float) -> str:
    """What delivery knows of the lane (relay/delivery/state.py), "" when it is well or nothing is known."""
    reason, health = state.get("reason", ""), state.get("state", "")
    if not reason:
        return ""
    words = _trouble(reason, state.get("host", ""), state.get("reply", ""))
    if health == "ramping":
        return f"recovers; until a moment ago: {words}"
    since = f" for {exact(now - state['since'])}" if state.get("since") else ""
    until = state.get("until", 0.0)
    probe = (
        f"probing again in {exact(ceil(until - now))}"
        if until > now and health != "probing"
        else "probing now"
    )
    return f"{words} (suspended{since}, {probe})"
