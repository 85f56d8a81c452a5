"""The parameters of MAIL FROM and RCPT TO (RFC 5321 4.1.1.11): SIZE, BODY, SMTPUTF8, RET, ENVID, AUTH;
NOTIFY, ORCPT.

Pure. Values keep their case and bytes: ENVID, NOTIFY and ORCPT go on to the next hop as they came (RFC 3461).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.front.replies import Refused, bad_argument

ENVID_LIMIT, ORCPT_LIMIT = 100, 500  # characters (RFC 3461 4.4, 4.2)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 section 4
_UNITEXT = re.compile(
    r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\+[0-9A-F]{2}|\\x\{[0-9A-F]{2,6}\})+"
)  # RFC 6533
_TYPE = re.compile(r"[A-Za-z0-9-]+")
_CONDITIONS = frozenset(("SUCCESS", "FAILURE", "DELAY"))


@dataclass(slots=True)
class MailParams:
    """size: as declared, 0 when not; ret: "FULL", "HDRS" or ""; envid: xtext as given."""

    size: int = 0
    eightbit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


def parse_mail(text: str) -> MailParams:
    """What stands behind the path of MAIL. Raises Refused: 555 5.5.4 unknown, 501 5.5.4 bad or twice."""
    params = MailParams()
    if text:
        for keyword, value in _split(text, _MAIL).items():
            _MAIL[keyword](params, value)
    return params


def parse_rcpt(text: str, smtputf8: bool) -> str:
    """What stands behind the path of RCPT -> Recipient.options: the parameters, byte for byte. Raises
    Refused."""
    if not text:
        return ""
    for keyword, value in _split(text, _RCPT).items():
        _RCPT[keyword](value, smtputf8)
    return " ".join(text.split())


def _split(text: str, known: Mapping[str, object]) -> dict[str, str | None]:
    """keyword in upper case -> value, None without "="."""
    found: dict[str, str | None] = {}
    for item in text.split():
        name, equals, value = item.partition("=")
        keyword = name.upper()
        if keyword not in known:
            raise Refused(555, "5.5.4", "parameter not known", "syntax")
        if keyword in found:
            raise bad_argument(f"{keyword} given twice")
        found[keyword] = value if equals else None
    return found


def _size(params: MailParams, value: str | None) -> None:
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 20):
        raise bad_argument("SIZE needs a number")
    params.size = int(value)


def _body(params: MailParams, value: str | None) -> None:
    body = (value or "").upper()
    if body not in ("7BIT", "8BITMIME"):
        raise bad_argument("BODY is 7BIT or 8BITMIME")
    params.eightbit = body == "8BITMIME"


def _smtputf8(params: MailParams, value: str | None) -> None:
    if value is not None:
        raise bad_argument("SMTPUTF8 takes no value")
    params.smtputf8 = True


def _ret(params: MailParams, value: str | None) -> None:
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise bad_argument("RET is FULL or HDRS")
    params.ret = ret


def _envid(params: MailParams, value: str | None) -> None:
    if value is None or len(value) > ENVID_LIMIT or not _XTEXT.fullmatch(value):
        raise bad_argument(f"ENVID needs xtext of at most {ENVID_LIMIT} characters")
    params.envid = value


def _auth(_: MailParams, value: str | None) -> None:
    """Taken and dropped (RFC 4954 section 5: a server that does not trust it treats it as <>)."""
    if value is None or not (value == "<>" or _XTEXT.fullmatch(value)):
        raise bad_argument("AUTH needs xtext or <>")


def _notify(value: str | None, _: bool) -> None:
    conditions = (value or "").upper().split(",")
    if conditions == ["NEVER"]:
        return
    if not _CONDITIONS.issuperset(conditions) or len(set(conditions)) != len(conditions):
        raise bad_argument("NOTIFY is NEVER, or a list of SUCCESS, FAILURE, DELAY")


def _orcpt(value: str | None, smtputf8: bool) -> None:
    kind, semicolon, address = (value or "").partition(";")
    sound = _XTEXT.fullmatch(address) or (smtputf8 and _UNITEXT.fullmatch(address))
    if not (semicolon and _TYPE.fullmatch(kind) and sound) or len(value or "") > ORCPT_LIMIT:
        raise bad_argument(f"ORCPT needs type;xtext of at most {ORCPT_LIMIT} characters")


_MAIL: dict[str, Callable[[MailParams, str | None], None]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "RET": _ret,
    "ENVID": _envid,
    "AUTH": _auth,
}
_RCPT: dict[str, Callable[[str | None, bool], None]] = {"NOTIFY": _notify, "ORCPT": _orcpt}
