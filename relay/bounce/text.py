"""The part of a report that people read: who, what happened, the remote's words, what to do. Pure."""

from __future__ import annotations

import textwrap

from mailqueue.entry import Recipient
from relay.bounce import clean
from relay.bounce.explain import explain
from relay.bounce.original import Original
from relay.bounce.status import Facts, host_name
from relay.outcome import Outcome
from relay.reply import Reply

SHOWN = 50  # recipients described one by one; a report to a thousand is read by nobody
WIDTH = 72

_TO_POSTMASTER = (
    "The message names no sender it could be returned to; most often it is itself a report about another "
    "message. You get this as the postmaster."
)
_SUBJECTS = {
    "failed": "Your message could not be delivered",
    "delayed": "Your message is delayed",
    "delivered": "Your message was delivered",
    "relayed": "Your message was passed on",
}


def subject(facts: Facts) -> str:
    """The Subject of the report."""
    if not facts.envelope.sender:
        return "A message without a sender could not be delivered"
    return _SUBJECTS[facts.kind]


def letter(facts: Facts, original: Original, returned: str) -> str:
    """The whole text; lines end with LF. returned: one sentence about what is attached, "" for none."""
    blocks = [
        _wrapped(f"This is the mail relay at {facts.hostname}."),
        _wrapped(_opening(facts)),
        _about(facts, original),
        *(_recipient(facts, *result) for result in facts.results[:SHOWN]),
    ]
    if len(facts.results) > SHOWN:
        more = len(facts.results) - SHOWN
        blocks.append(_wrapped(f"And {more} more; the attached report lists all of them."))
    if facts.kind == "failed" and not facts.envelope.sender:
        blocks.append(_wrapped(_TO_POSTMASTER))
    if returned:
        blocks.append(_wrapped(returned))
    blocks.append(_wrapped(f"For those who run the mail system: the queue id is {facts.queue_id}."))
    return "\n\n".join(blocks) + "\n"


def _opening(facts: Facts) -> str:
    many = len(facts.results) > 1
    message = "Your message" if facts.envelope.sender else "A message"
    whom = f"the {len(facts.results)} recipients" if many else "the recipient below"
    below = " listed below" if many else ""
    if facts.kind == "failed":
        them = "them" if many else "this recipient"
        return f"{message} could not be delivered to {whom}{below}. It will not be tried again for {them}."
    if facts.kind == "delayed":
        until = f" until {clean.date(facts.give_up)}" if facts.give_up else ""
        text = (
            f"Your message has not yet been delivered to {whom}{below}. You need not do anything: it is tried"
        )
        return f"{text} again and again{until}. If that is in vain, you get another report."
    if facts.kind == "relayed":
        text = f"Your message was passed on for {whom}{below}, to a server that does not confirm deliveries."
        return f"{text} You will hear more only if it fails."
    return f"Your message was delivered to {whom}{below}, as you asked to be told."


def _about(facts: Facts, original: Original) -> str:
    """The message, so that the reader knows which one is meant."""
    rows = [
        ("Subject", clean.plain(original.subject, 200)),
        ("From", clean.address(facts.envelope.sender)),
        ("Handed in", clean.date(facts.accepted)),
    ]
    return "\n".join(f"    {label + ':':<11}{value}" for label, value in rows if value)


def _recipient(facts: Facts, recipient: Recipient, outcome: Outcome) -> str:
    what, advice = explain(outcome)
    lines = [clean.address(recipient.address)]
    if what:
        lines.append(_wrapped(what, "    "))
    lines += _words(facts, outcome)
    if advice:
        lines.append(_wrapped(advice, "    "))
    return "\n".join(lines)


def _words(facts: Facts, outcome: Outcome) -> list[str]:
    """What the remote said, or what stood in the way."""
    if not outcome.reply.code:
        reason = clean.plain(outcome.reply.text)
        return (
            [_wrapped(f"Reason: {reason}", "    ")] if reason and facts.kind in ("failed", "delayed") else []
        )
    who = f"{host_name(outcome.host)} " if outcome.host else "The server "
    return [
        f"    {clean.plain(who, 253)} said:",
        *(_wrapped(line, " " * 8) for line in _reply_lines(outcome.reply)),
    ]


def _reply_lines(reply: Reply) -> list[str]:
    """The reply as it came, line by line, at most 20."""
    first, *rest = [clean.plain(line) for line in reply.text.split("\n")[:20]]
    return [clean.plain(f"{reply.head} {first}"), *(line for line in rest if line)]


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=len(text) > 500,
        break_on_hyphens=False,
    )
