"""What a refusal means, in words for people who do not run mail servers. Pure.

The table goes by the enhanced status code (RFC 3463 and the IANA registry): its subject and detail, "1.1" for
4.1.1 and 5.1.1. Where a server gives none, the stage of the attempt has to do.
"""

from __future__ import annotations

from relay.outcome import Deferred, Delivered, Failed, Outcome

Advice = tuple[str, str]  # what happened; what can be done about it

_SPELLING = "Check the address for typing errors, or ask the person for the current one."
_ADMINS = "The people who run your mail can find out more; forward this report to them."

_CODES: dict[str, Advice] = {
    "1.1": ("The receiving server does not know this address.", _SPELLING),
    "1.2": ("The domain of this address does not exist or takes no mail.", _SPELLING),
    "1.3": ("The receiving server does not accept this as an address.", _SPELLING),
    "1.6": ("The person has moved to another address.", "Ask for the new address in another way."),
    "1.8": ("The receiving server does not accept the sender's address.", _ADMINS),
    "1.10": ("The domain of this address says that it takes no mail at all.", _SPELLING),
    "2.1": ("The mailbox is closed.", "Ask the person for another address."),
    "2.2": (
        "The mailbox is full.",
        "Tell the person in another way; when there is room again, send the message again.",
    ),
    "2.3": (
        "The message is larger than this mailbox takes.",
        "Send a smaller message, or pass on large files in another way.",
    ),
    "3.4": (
        "The message is larger than the receiving server takes.",
        "Send a smaller message, or pass on large files in another way.",
    ),
    "4.1": ("The receiving server could not be reached.", _ADMINS),
    "4.3": ("The domain of this address could not be looked up.", _SPELLING),
    "4.4": ("No server takes mail for the domain of this address.", _SPELLING),
    "4.6": ("The message went round in a circle between servers.", _ADMINS),
    "4.7": ("The message could not be delivered in time.", "Send it again later, or use another way."),
    "6.3": ("The receiving server cannot take characters beyond plain ASCII.", _ADMINS),
    "6.7": (
        "The receiving server cannot take international addresses.",
        "Use an address without special characters, if the person has one.",
    ),
    "7.1": ("The receiving server's rules do not allow this message.", _ADMINS),
}
_GROUPS: dict[str, Advice] = {
    "1": ("The receiving server does not accept this address.", _SPELLING),
    "2": ("There is a problem with the mailbox.", "Tell the person in another way."),
    "3": ("There is a problem at the receiving server.", "Send the message again later, or use another way."),
    "4": ("There is a problem on the way to the receiving server.", _ADMINS),
    "6": ("The receiving server cannot take a message of this form.", _ADMINS),
    "7": (
        "The receiving server's security rules do not allow this message.",
        _ADMINS,
    ),
}
_STAGES: dict[str, Advice] = {
    "dns": ("The domain of this address could not be found.", _SPELLING),
    "rcpt": ("The receiving server does not accept mail for this address.", _SPELLING),
    "mail": ("The receiving server does not accept mail from the sender.", _ADMINS),
}


def explain(outcome: Outcome) -> Advice:
    """What happened to one recipient, and what the sender can do."""
    if isinstance(outcome, Delivered):
        return "", ""
    what, advice = _lookup(outcome)
    if isinstance(outcome, Deferred):
        return what, ""
    if outcome.stage == "age" and outcome.reply.text:
        return f"It could not be delivered in time. {what}", advice
    return what, advice


def _lookup(outcome: Deferred | Failed) -> Advice:
    subject = outcome.reply.enhanced.partition(".")[2]
    group = subject.partition(".")[0]
    if subject in _CODES:
        return _CODES[subject]
    if outcome.stage in _STAGES and group in ("", "0", "5"):
        return _STAGES[outcome.stage]
    if group in _GROUPS:
        return _GROUPS[group]
    if not outcome.reply.code:
        return "The receiving server could not be reached.", _ADMINS
    return "The receiving server does not accept the message.", _ADMINS
