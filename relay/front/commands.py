"""The commands: a table from verb to function. Each takes the session and the argument and returns its reply.

What is refused is raised as `Refused`. Nothing here waits: what must (AUTH) returns `session.wait_for(...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mailqueue.entry import Recipient
from relay.front import replies
from relay.front.auth import auth, check_sender
from relay.front.mail import Mail, recipient_key
from relay.front.params import MailParams, parse_mail, parse_rcpt
from relay.front.path import PathError, parse_path
from relay.front.replies import Refused, bad_argument, out_of_order

if TYPE_CHECKING:
    from relay.front.session import Session

HELO_LIMIT = 255  # octets of a name


def ehlo(session: Session, argument: str) -> bytes:
    session.greet(_helo_name(argument), extended=True)
    return session.service.ehlo_for(session.secure)


def helo(session: Session, argument: str) -> bytes:
    session.greet(_helo_name(argument), extended=False)
    return session.service.helo


def _helo_name(argument: str) -> str:
    name = argument.strip(" ")
    if not name or len(name.encode()) > HELO_LIMIT:
        raise bad_argument("say who you are: EHLO name")
    return name


def mail(session: Session, argument: str) -> bytes:
    """RFC 5321 4.1.1.2."""
    if session.caller is None:
        raise out_of_order("EHLO first")
    if session.mail is not None:
        raise out_of_order("a MAIL is under way, RSET first")
    if argument[:5].upper() != "FROM:":
        raise bad_argument("say MAIL FROM:<address>")
    address, rest = _path(session, argument[5:], "5.1.7")
    params = parse_mail(rest)
    utf8 = _check_utf8(address, params.smtputf8)
    _check_size(session, params)
    check_sender(session, address)
    session.reset()
    session.mail = Mail(session.caller, address, params, utf8, session.login, session.secure)
    if session.service.rewriter is not None:
        session.mail.rewrite(session.service.rewriter)
    return replies.SENDER_OK


def rcpt(session: Session, argument: str) -> bytes:
    """RFC 5321 4.1.1.3."""
    transaction = session.mail
    if transaction is None:
        raise session.without_mail()
    try:
        return _recipient(session, transaction, argument)
    except Refused as refusal:
        transaction.refuse(refusal)
        raise
    except Exception:
        transaction.refuse(replies.our_fault())
        raise


def _recipient(session: Session, transaction: Mail, argument: str) -> bytes:
    if argument[:3].upper() != "TO:":
        raise bad_argument("say RCPT TO:<address>")
    address, rest = _path(session, argument[3:], "5.1.3")
    if not address:
        raise Refused(501, "5.1.3", "a recipient cannot be empty", "address")
    options = parse_rcpt(rest, transaction.params.smtputf8)
    if not (session.trusted or session.login):
        raise _denied(session)
    utf8 = _check_utf8(address, transaction.params.smtputf8)
    key = recipient_key(address)
    if key in transaction.seen:
        return replies.RECIPIENT_OK
    limit = session.service.limits.recipients
    if len(transaction.seen) >= limit:
        raise Refused(
            452, "4.5.3", f"more than {limit} recipients, send the rest in another message", "recipients"
        )
    lane = session.service.table.lane(transaction.sender, address)
    transaction.add(lane, Recipient(address, options), key)
    transaction.utf8 |= utf8
    return replies.RECIPIENT_OK


def _denied(session: Session) -> Refused:
    """Neither logged in nor from a trusted network: how to get in."""
    how = "" if session.service.authenticator is None else "log in (AUTH); "
    text = f"relaying denied: {how}{session.address} is not in trusted_networks"
    return Refused(550, "5.7.1", text, "policy")


def data(session: Session, argument: str) -> bytes:
    """RFC 5321 4.1.1.4."""
    transaction = session.mail
    if argument.strip(" "):
        raise bad_argument("DATA takes no argument")
    if transaction is None:
        raise session.without_mail()
    if not transaction.seen:
        raise _without_recipients(transaction.refused)
    session.begin_data(transaction)
    return replies.SEND_DATA


def _without_recipients(refusal: Refused | None) -> Refused:
    """What DATA is answered when there is no recipient: temporary when one of them was refused for now."""
    if refusal is None:
        return out_of_order("RCPT first")
    if refusal.reply.code < 500:
        return refusal
    return Refused(554, "5.5.1", "no recipient was accepted", "sequence")


def rset(session: Session, argument: str) -> bytes:
    if argument.strip(" "):
        raise bad_argument("RSET takes no argument")
    session.reset()
    return replies.RESET_OK


def noop(_: Session, __: str) -> bytes:
    return replies.NOOP_OK


def quit_(session: Session, _: str) -> bytes:
    session.leave()
    return replies.GOODBYE


def vrfy(_: Session, argument: str) -> bytes:
    """Says nothing about anybody (RFC 5321 3.5.3)."""
    if not argument.strip(" "):
        raise bad_argument("VRFY needs an address")
    return replies.VERIFY


def help_(_: Session, __: str) -> bytes:
    return replies.HELP


def starttls(session: Session, argument: str) -> bytes:
    """RFC 3207 section 4. What a client, or somebody on the way, sent behind it in clear is never taken for
    something said inside TLS (CVE-2011-0411)."""
    if session.service.tls != "starttls" and not session.secure:
        return not_offered(session, argument)
    if argument.strip(" "):
        raise bad_argument("STARTTLS takes no argument")
    if session.secure:
        raise out_of_order("TLS is on")
    if session.at < len(session.buffer):
        session.leave()
        raise Refused(554, "5.5.1", "nothing may follow STARTTLS in clear", "abuse")
    session.begin_tls()
    return replies.GO_SECURE


def expn(_: Session, __: str) -> bytes:
    raise Refused(502, "5.7.0", "EXPN is not offered", "policy")


def not_offered(_: Session, __: str) -> bytes:
    raise Refused(502, "5.5.1", "command not offered", "syntax")


def http(_: Session, __: str) -> bytes:
    """A web client on the wrong port, or one that was made to talk SMTP."""
    raise replies.not_smtp("not HTTP")


def _path(session: Session, text: str, enhanced: str) -> tuple[str, str]:
    try:
        return parse_path(text, session.service.origin)
    except PathError as error:
        raise Refused(501, enhanced, str(error), "address") from None


def _check_utf8(address: str, declared: bool) -> bool:
    """Is the address not ASCII? Only after SMTPUTF8 (RFC 6531 3.4)."""
    if address.isascii():
        return False
    if not declared:
        raise Refused(553, "5.6.7", "a non-ASCII address needs SMTPUTF8 on MAIL", "address")
    return True


def _check_size(session: Session, params: MailParams) -> None:
    """RFC 1870 section 6.1."""
    limits = session.service.limits
    if params.size > limits.message_size:
        raise replies.too_big(limits.message_size)
    space = session.service.queue.space()
    if space.full or params.size > space.free_bytes - limits.spool_reserve:
        raise replies.no_space()


Command = Callable[["Session", str], bytes]

COMMANDS: dict[str, Command] = {
    "EHLO": ehlo,
    "HELO": helo,
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "RSET": rset,
    "NOOP": noop,
    "QUIT": quit_,
    "VRFY": vrfy,
    "HELP": help_,
    "EXPN": expn,
    "AUTH": auth,
    "STARTTLS": starttls,
    **dict.fromkeys(("ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML", "BDAT"), not_offered),
    **dict.fromkeys(("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE"), http),
}
STAGES = {"EHLO": "helo", "HELO": "helo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data"}
