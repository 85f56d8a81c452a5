"""The replies of the front, each with an enhanced code of the same class (RFC 2034, RFC 3463).

What is said often is a constant in wire form. What is refused is a `Refused`, raised where the reason is
found and answered in one place (session.py), so that no refusal goes uncounted.
"""

from __future__ import annotations

from relay.reply import Reply


class Refused(Exception):
    """A command or message is refused: reply as said; reason: one of events.REJECT_REASONS."""

    def __init__(self, code: int, enhanced: str, text: str, reason: str) -> None:
        super().__init__(f"{code} {enhanced} {text}")
        self.reply = Reply(code, enhanced, text)
        self.reason = reason


def wire(reply: Reply) -> bytes:
    """One reply line; non-ASCII text becomes "?" (a client need not have asked for SMTPUTF8)."""
    return f"{reply.code} {reply.enhanced} {reply.text}\r\n".encode("ascii", "replace")


SENDER_OK = b"250 2.1.0 sender ok\r\n"
RECIPIENT_OK = b"250 2.1.5 recipient ok\r\n"
SEND_DATA = b"354 end data with <CR><LF>.<CR><LF>\r\n"
RESET_OK = b"250 2.0.0 reset\r\n"
NOOP_OK = b"250 2.0.0 ok\r\n"
GOODBYE = b"221 2.0.0 goodbye\r\n"
GO_SECURE = b"220 2.0.0 begin TLS\r\n"
VERIFY = b"252 2.5.0 cannot verify, but will take a message for it and attempt delivery\r\n"
HELP = b"214 2.0.0 commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT\r\n"

NO_SPACE = ("4.3.1", "not enough space on the spool, try again later")
SPOOL_TROUBLE = ("4.3.0", "the message could not be stored, try again later")
SHUTTING_DOWN = ("4.3.2", "the relay is shutting down, try again later")


def no_space() -> Refused:
    return Refused(452, *NO_SPACE, "space")


def spool_trouble() -> Refused:
    return Refused(451, *SPOOL_TROUBLE, "spool")


def shutting_down() -> Refused:
    return Refused(421, *SHUTTING_DOWN, "closing")


def our_fault() -> Refused:
    return Refused(451, "4.3.0", "local error, try again later", "bug")


def too_big(limit: int) -> Refused:
    return Refused(552, "5.3.4", f"message is larger than the limit of {limit} octets", "size")


def out_of_order(text: str) -> Refused:
    return Refused(503, "5.5.1", text, "sequence")


def bad_argument(text: str) -> Refused:
    return Refused(501, "5.5.4", text, "syntax")


def bad_character(line: bytes) -> Refused:
    """What begins with no printable ASCII is another protocol, such as TLS at the wrong port: a line further
    down in it may look like a command, so the session is to end."""
    if line and not 0x20 <= line[0] < 0x7F:
        return not_smtp("not whatever this is")
    return Refused(501, "5.5.2", "control character or bad UTF-8 in the command", "syntax")


def not_smtp(text: str) -> Refused:
    """Another protocol: this ends the session."""
    return Refused(554, "5.5.1", f"this is SMTP, {text}", "abuse")


def unknown_command() -> Refused:
    return Refused(500, "5.5.2", "command not recognised", "syntax")
