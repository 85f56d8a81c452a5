"""What a token endpoint answers, as a value (RFC 6749 sections 5.1 and 5.2). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from relay.observe.text import printable

MOST = 65_536  # octets of an answer
TOKEN_MOST = 8192  # octets of a token: a response to a challenge has 12288, in base64 (RFC 4954 section 4)
LIFE = 600.0  # s of a token whose end is not said
TEXT_MOST = 300  # characters shown of what an endpoint says
FAULTS = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
     "invalid_scope"}
)  # fmt: skip


class NoToken(Exception):
    """fault: True for what only a change of secret or configuration mends. The text names no secret."""

    def __init__(self, text: str, *, fault: bool = False) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Token:
    """life: seconds from now; refresh: the next refresh token, "" for the same as before."""

    access: str = field(repr=False)
    life: float
    refresh: str = field(default="", repr=False)


def read_answer(status: int, body: bytes, secrets: Iterable[str]) -> Token:
    """status: of HTTP; secrets: what was in the form and must not be repeated. NoToken."""
    if len(body) > MOST:
        raise NoToken(f"the answer is over {MOST} octets")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NoToken(f"HTTP {status}, and the answer is no JSON object")
    if status != 200 or "error" in found:
        raise _refusal(status, found, secrets)
    return _token(found)


def _refusal(status: int, found: dict[str, Any], secrets: Iterable[str]) -> NoToken:
    error, description = (_words(found.get(name), secrets) for name in ("error", "error_description"))
    said = ": ".join(part for part in (error, description) if part) or "it does not say why"
    fault = 400 <= status < 500 and error in FAULTS
    return NoToken(said if fault else f"HTTP {status}: {said}", fault=fault)


def _words(value: object, secrets: Iterable[str]) -> str:
    if not isinstance(value, str):
        return ""
    text = value
    for secret in secrets:
        text = text.replace(secret, "...")
    return printable(" ".join(text.split()))[:TEXT_MOST]


def _token(found: dict[str, Any]) -> Token:
    access, refresh, life = (found.get(name) for name in ("access_token", "refresh_token", "expires_in"))
    if not _is_token(access):
        raise NoToken("the answer has no usable access_token")
    if str(found.get("token_type", "bearer")).lower() != "bearer":  # RFC 6749 section 5.1: any case
        raise NoToken(f"a token of type {_words(str(found['token_type']), ())}; XOAUTH2 needs Bearer")
    return Token(str(access), _life(life), str(refresh) if _is_token(refresh) else "")


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TOKEN_MOST and value.isascii() and value.isprintable()


def _life(value: object) -> float:
    """Some endpoints write the number as a text."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) else LIFE
    except ValueError:
        return LIFE
    return min(seconds, 86400.0) if seconds > 0 else LIFE
