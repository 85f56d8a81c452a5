"""Queue rows as JSON objects: the names of Postfix's `postqueue -j`, and ours.

One object is one message on its way to one next hop; a message with recipients in several lanes has several,
with the same queue_id. As with Postfix the null sender is shown as MAILER-DAEMON and a recipient has a
delay_reason only when something was said about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailqueue.entry import LaneTally, Recipient, Row, State, Tally
from relay.observe.spool import STATE_NAMES

NULL_SENDER = "MAILER-DAEMON"
WAITING = (State.INCOMING, State.DEFERRED)


def row_object(row: Row) -> dict[str, Any]:
    """next_attempt: epoch seconds; null where no attempt is planned (being tried, held, in quarantine)."""
    state = STATE_NAMES[row.state]
    return {
        "queue_name": state,
        "queue_id": row.message,
        "arrival_time": int(row.accepted),
        "message_size": row.size,
        "forced_expire": False,
        "sender": row.sender or NULL_SENDER,
        "recipients": [_recipient(recipient) for recipient in row.recipients],
        "lane": row.lane,
        "state": state,
        "next_attempt": round(row.due, 3) if row.state in WAITING else None,
        "attempts": row.attempts,
        "crashes": row.crashes,
    }


def _recipient(recipient: Recipient) -> dict[str, str]:
    return {"address": recipient.address, **({"delay_reason": recipient.reply} if recipient.reply else {})}


def tallies_object(tallies: Mapping[State, Tally]) -> dict[str, dict[str, float]]:
    """state -> entries, bytes and the accept time of the oldest; every state is there."""
    objects = {}
    for state, name in STATE_NAMES.items():
        tally = tallies.get(state) or Tally()
        objects[name] = {"messages": tally.entries, "bytes": tally.bytes, "oldest": tally.oldest}
    return objects


def lane_object(tally: LaneTally) -> dict[str, Any]:
    """One lane: its entries by state, and when the queue offers it next (epoch seconds, null: never)."""
    return {"lane": tally.lane, "states": tallies_object(tally.states), "next": tally.next or None}
