"""Asking a token endpoint over HTTP. aiohttp is loaded when the first route needs a token, not before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from relay.delivery.oauth_answer import MOST, NoToken, Token, read_answer

if TYPE_CHECKING:
    import aiohttp

SECONDS = 30.0  # for the whole question
SECRET = ("client_secret", "refresh_token")


async def fetch(url: str, form: Mapping[str, str], seconds: float = SECONDS) -> Token:
    """POST the form. NoToken: its text does not name the host. A proxy of the environment is used; a redirect
    is not followed: the form has secrets."""
    import aiohttp

    limit = aiohttp.ClientTimeout(total=seconds)
    headers = {"Accept": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=True) as session,
            session.post(url, data=dict(form), headers=headers, allow_redirects=False) as response,
        ):
            body = await _bounded(response)
    except TimeoutError:
        raise NoToken(f"no answer within {seconds:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoToken(_reason(error)) from None
    return read_answer(response.status, body, [form[name] for name in SECRET if name in form])


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to one octet more than is allowed."""
    body = b""
    while len(body) <= MOST and (chunk := await response.content.read(MOST + 1 - len(body))):
        body += chunk
    return body


def _reason(error: Exception) -> str:
    """What went wrong, without the address or the form."""
    cause = getattr(error, "os_error", error)
    certificate = getattr(error, "certificate_error", None)
    if certificate is not None:
        return f"certificate: {getattr(certificate, 'verify_message', '') or type(certificate).__name__}"
    number = getattr(cause, "errno", None) or 0
    text = os.strerror(number).lower() if number > 0 else getattr(cause, "strerror", None)
    return f"cannot be asked: {text or type(error).__name__}"
