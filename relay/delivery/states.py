"""The words of the transaction's state machine: its states, and what it tells its caller to do."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """What the caller must do now."""

    WAIT = "wait"  # more replies are on their way
    SEND = "send"  # write `output`
    CONTENT = "content"  # write content and final dot, then call content_sent()
    DONE = "done"  # results and verdict are complete


WAIT, SEND, CONTENT, DONE = Step  # to name a member costs 0.1 us, and a message does so 20 times

STATES = {  # state -> (stage of an outcome decided there, what is awaited, in words)
    "reset": ("mail", "the reply to RSET"),
    "mail": ("mail", "the reply to MAIL"),
    "rcpt": ("rcpt", "the reply to RCPT"),
    "rcpt echo": ("rcpt", "the reply to RCPT"),
    "data": ("data", "the reply to DATA"),
    "data echo": ("data", "the reply to DATA"),
    "content": ("data", "the end of the content"),
    "dot": ("dot", "the reply to the final dot"),
    "lone dot": ("dot", "the reply to the dot"),
    "end": ("dot", "the end"),
}
