"""The end of the story: did everything come true? Pure functions of what the next hops hold."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterable, Iterator, Mapping

from relay.demo.cast import BOUNCE, CAST, SENDER, Letter
from relay.demo.sinks import Mail, Sink
from relay.demo.tale import Fate
from relay.observe.text import plural


def complaints(fates: Iterable[Fate], sinks: Mapping[str, Sink]) -> list[str]:
    """A line for everything that is not as CAST says; empty: all is well. sinks: by recipient."""
    found = [unexpected(fate) for fate in fates if not fate.expected]
    for letter in CAST:
        found.extend(delivered(letter, sinks[letter.recipient].inbox))
    found.extend(returned(sinks[SENDER].inbox))
    return found


def unexpected(fate: Fate) -> str:
    letter = fate.letter
    said = f" ({fate.reply})" if fate.reply else ""
    return (
        f"{letter.recipient}: expected to be {letter.fate} at try {letter.tries}, "
        f"but is {fate.state or 'not accepted'} after {fate.tries}{said}"
    )


def delivered(letter: Letter, inbox: list[Mail]) -> Iterator[str]:
    """Once, to the right one, byte for byte below our Received header; or never, if so it shall be."""
    wanted = 1 if letter.fate == "delivered" else 0
    if len(inbox) != wanted:
        yield f"{letter.recipient}: its next hop got {plural(len(inbox), 'message')} instead of {wanted}"
    for mail in inbox:
        trace, _, rest = mail.content.partition(b"From: ")
        if not trace.startswith(b"Received: ") or b"From: " + rest != letter.content:
            yield f"{letter.recipient}: what arrived is not what was sent"
        if (mail.sender, mail.recipients) != (SENDER, [letter.recipient]):
            yield f"{letter.recipient}: arrived from {mail.sender} for {', '.join(mail.recipients)}"


def returned(inbox: list[Mail]) -> Iterator[str]:
    """One bounce, from the null sender, about the letter that was refused."""
    if len(inbox) != 1:
        yield f"{BOUNCE.recipient}: expected one bounce, got {len(inbox)}"
    failed = next(letter for letter in CAST if letter.fate == "bounced")
    for mail in inbox:
        report = mail.content.decode(errors="replace")
        for text in (
            failed.recipient,
            "Action: failed",
            failed.refusals[0][:3],
            failed.refusals[0].split()[1],
        ):
            if text not in report:
                yield f"{BOUNCE.recipient}: the bounce does not say {text!r}"
        if mail.sender:
            yield f"{BOUNCE.recipient}: the bounce comes from {mail.sender}, not from the null sender"


def bounce_words(inbox: list[Mail]) -> str:
    """The part of the bounce that is for people; "" when there is none."""
    for mail in inbox:
        for part in email.message_from_bytes(mail.content, policy=email.policy.default).walk():
            if part.get_content_type() == "text/plain":
                return str(part.get_content())
    return ""
