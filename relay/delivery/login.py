"""Logging in at a next hop: which mechanism, over what, and the dialogue (RFC 4954).

aiosmtplib carries the lines and encodes the first responses. Its own dialogues are not used: they try every
mechanism in turn (accounts get locked), send an initial response that is too long for the command line, and
drop what XOAUTH2 says of a failure.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from aiosmtplib import SMTP, SMTPResponseException
from aiosmtplib.auth import auth_crammd5_verify, auth_plain_encode, auth_xoauth2_encode

from relay.observe.text import printable
from relay.routing.login import Level

LEVELS: tuple[Level, ...] = ("clear", "encrypted", "verified")
COMMAND_MOST = 512  # octets of a command line with its CRLF (RFC 5321 4.5.3.1.4)
IN_TLS = ("plain", "login", "cram-md5")
IN_CLEAR = ("cram-md5", "plain", "login")  # the one that does not show the password comes first
WITH_TOKEN = ("xoauth2",)
CONTINUE = 334

_ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{4,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """Who we are, and the password or access token that proves it. stamps: of the files it came from."""

    username: str
    secret: str = field(repr=False)
    oauth: bool = False
    stamps: tuple[object, ...] = ()


def level(session: ssl.SSLObject | None) -> Level:
    """What the session really is, whatever the configuration says it should be."""
    if session is None:
        return "clear"
    context = session.context
    verified = context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    return "verified" if verified else "encrypted"


def choose(offered: Collection[str], oauth: bool, over: Level) -> str:
    """The one mechanism to use, "" when none will do. offered: in lower case."""
    wanted = WITH_TOKEN if oauth else IN_CLEAR if over == "clear" else IN_TLS
    return next((name for name in wanted if name in offered), "")


def unusable(offered: Collection[str], oauth: bool) -> str:
    """Why there is no mechanism to use, in words."""
    wanted = "XOAUTH2" if oauth else "PLAIN, LOGIN or CRAM-MD5"
    known = sorted({name.upper() for name in offered})
    what = f"AUTH {' '.join(known)}" if known else "no AUTH"
    return f"the host offers {what}; a login needs {wanted}"


async def log_in(smtp: SMTP, mechanism: str, credential: Credential) -> tuple[int, str]:
    """The last reply: its code (2yz: we are in) and its text, in which nothing of the secret stands.

    SMTPResponseException for what is no reply, without the secret too."""
    dialogue = _Dialogue(credential)
    try:
        code, text = await _run(smtp, mechanism, dialogue)
    except SMTPResponseException as error:
        code, text = error.code, error.message
    text = dialogue.without_secrets(text)
    if code < 0:
        raise SMTPResponseException(code, text)
    return code, text


async def _run(smtp: SMTP, mechanism: str, dialogue: _Dialogue) -> tuple[int, str]:
    command = [b"AUTH", mechanism.upper().encode()]
    first, answers = DIALOGUES[mechanism]
    if first is not None:
        initial = first(dialogue, "")
        # RFC 4954 section 4: an initial response that makes the line too long must wait to be asked for
        if len(b" ".join((*command, initial))) + 2 <= COMMAND_MOST:
            command.append(initial)
        else:
            answers = (first, *answers)
    response = await smtp.execute_command(*command)
    for answer in answers:
        if response.code != CONTINUE:
            break
        response = await smtp.execute_command(answer(dialogue, response.message))
    said = response.message
    return response.code, f"{said} ({dialogue.status})" if dialogue.status else said


class _Dialogue:
    """The responses, each made of a challenge (base64). sent: what must not be repeated to anybody."""

    def __init__(self, credential: Credential) -> None:
        self._user, self._secret = credential.username, credential.secret
        self._sent = [self._secret]
        self.status = ""

    def plain(self, challenge: str) -> bytes:
        return self._keep(auth_plain_encode(self._user, self._secret))

    def user(self, challenge: str) -> bytes:
        return base64.b64encode(self._user.encode())

    def password(self, challenge: str) -> bytes:
        return self._keep(base64.b64encode(self._secret.encode()))

    def digest(self, challenge: str) -> bytes:
        response = auth_crammd5_verify(self._user, self._secret, challenge)
        self._keep(base64.b64decode(response))
        return self._keep(response)

    def token(self, challenge: str) -> bytes:
        return self._keep(auth_xoauth2_encode(self._user, self._secret))

    def error(self, challenge: str) -> bytes:
        """XOAUTH2 says why in JSON and wants an empty line before its real reply."""
        self.status = _status(challenge)
        return b""

    def _keep(self, response: bytes) -> bytes:
        self._sent.append(response.decode())
        return response

    def without_secrets(self, text: str) -> str:
        """A host may repeat what it was told, whole or cut."""
        text = text.replace(self._secret, "...")
        return _ENCODED.sub(lambda found: "..." if self._is_sent(found[0]) else found[0], text)

    def _is_sent(self, word: str) -> bool:
        return any(word in sent or sent in word for sent in self._sent)


_Answer = Callable[[_Dialogue, str], bytes]

# mechanism -> (what goes with the command, the answers to challenges in order)
DIALOGUES: dict[str, tuple[_Answer | None, tuple[_Answer, ...]]] = {
    "plain": (_Dialogue.plain, ()),
    "login": (None, (_Dialogue.user, _Dialogue.password)),  # with the command not every server takes it
    "cram-md5": (None, (_Dialogue.digest,)),
    "xoauth2": (_Dialogue.token, (_Dialogue.error,)),
}


def _status(challenge: str) -> str:
    """ "status 401" of the base64 JSON that XOAUTH2 servers send."""
    try:
        found = json.loads(base64.b64decode(challenge))
        return f"status {printable(str(found['status']))[:20]}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
