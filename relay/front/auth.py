"""AUTH (RFC 4954): the mechanisms PLAIN (RFC 4616) and LOGIN, and what becomes of a session that used them.

An exchange is a function waiting for the client's next line; `session.exchange` holds it. What the client
says in it is never logged. A password that was right a moment ago is answered at once; else the session
waits (BUSY) for a check in a thread, and after a failure a little longer.
"""

from __future__ import annotations

import asyncio
import binascii
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.front import replies
from relay.front.replies import Refused, wire
from relay.users.listing import User

if TYPE_CHECKING:
    from relay.front.authenticator import Authenticator
    from relay.front.session import Session

MECHANISMS = ("PLAIN", "LOGIN")
AUTH_LINE_LIMIT = 12288  # octets of a line in the exchange, its CRLF included (RFC 4954 section 4)
FAILURES = 3  # of one connection, whatever the reason

Exchange = Callable[["Session", bytes], bytes]


def auth(session: Session, argument: str) -> bytes:
    """The command (RFC 4954 section 4)."""
    mechanism, _, initial = argument.strip(" ").partition(" ")
    mechanism = mechanism.upper()
    _may_begin(session, mechanism)
    begin = _BEGIN.get(mechanism)
    if begin is None:
        raise Refused(504, "5.5.4", f"mechanism not known, use {' or '.join(MECHANISMS)}", "syntax")
    return begin(session, initial)


def _may_begin(session: Session, mechanism: str) -> None:
    service = session.service
    if service.authenticator is None:
        raise Refused(502, "5.5.1", "this listener takes no logins", "syntax")
    if session.caller is None or not session.caller.extended:
        raise replies.out_of_order("EHLO first")
    if session.login:
        raise replies.out_of_order("already logged in")
    if session.mail is not None:  # RFC 4954 section 4
        raise replies.out_of_order("not during a mail transaction, RSET first")
    if not service.takes_login(session.secure):
        raise Refused(538, "5.7.11", "encryption required: STARTTLS first", "auth")  # RFC 4954 section 6
    if not mechanism:
        raise replies.bad_argument("say AUTH PLAIN or AUTH LOGIN")


# --- the exchange


def go_on(session: Session, exchange: Exchange, line: bytes) -> bytes:
    """The client's next line of an exchange, without its CRLF."""
    session.exchange = None
    if line == b"*":  # RFC 4954 section 4
        _told(session, "other", "invalid", "")
        raise Refused(501, "5.7.0", "authentication cancelled", "auth")
    return exchange(session, line)


def _begin_plain(session: Session, initial: str) -> bytes:
    return _plain(session, _initial(initial)) if initial else _ask(session, b"334 \r\n", _plain)


def _begin_login(session: Session, initial: str) -> bytes:
    return _user_name(session, _initial(initial)) if initial else _ask(session, USER_NAME, _user_name)


def _initial(text: str) -> bytes:
    """ "=" is an empty response (RFC 4954 section 4)."""
    return b"" if text == "=" else text.encode()


USER_NAME = b"334 VXNlcm5hbWU6\r\n"  # "Username:"
PASSWORD = b"334 UGFzc3dvcmQ6\r\n"  # "Password:"


def _ask(session: Session, challenge: bytes, then: Exchange) -> bytes:
    session.exchange = then
    return challenge


def _plain(session: Session, line: bytes) -> bytes:
    """authzid NUL authcid NUL password (RFC 4616 section 2)."""
    parts = _decoded(session, "PLAIN", line).split("\0")
    if len(parts) != 3:
        raise _malformed(session, "PLAIN", "not a PLAIN message")
    authorization, name, password = parts
    if authorization not in ("", name):  # nobody may act for another
        raise _malformed(session, "PLAIN", "the authorization identity must be empty")
    return _credentials(session, "PLAIN", name, password)


def _user_name(session: Session, line: bytes) -> bytes:
    name = _decoded(session, "LOGIN", line)

    def password(session: Session, line: bytes) -> bytes:
        return _credentials(session, "LOGIN", name, _decoded(session, "LOGIN", line))

    return _ask(session, PASSWORD, password)


def _decoded(session: Session, mechanism: str, line: bytes) -> str:
    try:
        return str(binascii.a2b_base64(line, strict_mode=True), "utf-8")
    except UnicodeDecodeError:
        text = "not UTF-8"
    except binascii.Error:
        text = "not base64"
    raise _malformed(session, mechanism, text)


def _malformed(session: Session, mechanism: str, text: str) -> Refused:
    _told(session, mechanism, "invalid", "")
    return Refused(501, "5.5.2", text, "syntax")


# --- the verdict


def _credentials(session: Session, mechanism: str, name: str, password: str) -> bytes:
    authenticator = session.service.authenticator
    if authenticator is None:
        raise replies.our_fault()
    name = name if name.isascii() else unicodedata.normalize("NFC", name)
    user = authenticator.recall(name, password)
    if user is not None:
        return _logged_in(session, mechanism, user, "cached")
    return session.wait_for("AUTH", _check(session, authenticator, mechanism, name, password))


async def _check(
    session: Session, authenticator: Authenticator, mechanism: str, name: str, password: str
) -> bytes:
    verdict = await authenticator.check(session.address, name, password)
    if verdict.user is not None:
        return _logged_in(session, mechanism, verdict.user, verdict.result)
    _told(session, mechanism, verdict.result, name)
    session.failures += 1
    if verdict.delay:
        await asyncio.sleep(verdict.delay)
    refused = _REFUSALS[verdict.result]()
    if session.failures < FAILURES or refused.reply.code == 421:  # which closes as well
        raise refused
    session.leave()
    return wire(refused.reply) + TOO_MANY_FAILURES


TOO_MANY_FAILURES = b"421 4.7.0 too many failed logins, closing\r\n"
_REFUSALS: dict[str, Callable[[], Refused]] = {
    "failed": lambda: Refused(535, "5.7.8", "user name or password wrong", "auth"),
    "blocked": lambda: Refused(421, "4.7.0", "too many failed logins from your address, try later", "auth"),
    "busy": lambda: Refused(454, "4.7.0", "too many logins at once, try again later", "auth"),
    "error": lambda: Refused(454, "4.7.0", "logins cannot be checked now, try again later", "auth"),
}


def _logged_in(session: Session, mechanism: str, user: User, result: str) -> bytes:
    session.user = user
    session.login = user.name
    _told(session, mechanism, result, user.name)
    return b"235 2.7.0 logged in\r\n"


def _told(session: Session, mechanism: str, result: str, name: str) -> None:
    session.service.events.login(session.service.listener, session.client, mechanism, result, name)


_BEGIN: dict[str, Callable[[Session, str], bytes]] = {"PLAIN": _begin_plain, "LOGIN": _begin_login}


# --- what a login is good for


def check_sender(session: Session, sender: str) -> None:
    """At MAIL: is a login needed, does it still hold, may it send as this? Raises Refused."""
    service, user = session.service, session.user
    if user is None:
        if service.auth_required:  # RFC 4954 section 6
            first = "" if service.takes_login(session.secure) else "STARTTLS, then "
            raise Refused(530, "5.7.0", f"authentication required: {first}AUTH", "auth")
        return
    current = service.authenticator.current(user) if service.authenticator is not None else None
    if current is None:
        raise Refused(421, "4.7.0", f"{user.name} was changed, log in again", "auth")
    session.user = current
    if not current.may_send_as(sender):
        allowed = ", ".join(current.patterns)
        text = f"{user.name} may not send as <{sender}>, only as {allowed}"
        raise Refused(553, "5.7.1", text[:400], "sender")
