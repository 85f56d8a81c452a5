"""Access tokens for XOAUTH2: fetched when needed, kept until shortly before they end, one fetch at a time.

By the refresh token where there is one (RFC 6749 section 6), else as the client itself (section 4.4). What an
endpoint says in an error is shown, cut and printable; what we said to it never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from relay.config.model import Oauth
from relay.delivery.oauth_answer import NoToken, Token
from relay.delivery.secret import NoSecret, Secrets, Stamp, stamp, stamps

EARLY_MOST, EARLY_SHARE = 300.0, 0.2  # a token is renewed so long (s), or so much of its life, before its end
COMPLAINT = 1.0  # s that a failure stands for all who ask: the hosts of a route are told by one question

Fetch = Callable[[str, Mapping[str, str]], Awaitable[Token]]

__all__ = ["NoToken", "Tokens"]


@dataclass(slots=True)
class _Kept:
    """What is known for one route. until: monotonic seconds; rotated: a later refresh token than the file's,
    with the file's stamp; failure: stands until `until` too, unless the secrets have changed (stamps)."""

    oauth: Oauth
    token: str = field(default="", repr=False)
    until: float = 0.0
    failure: NoToken | None = None
    stamps: tuple[Stamp | None, ...] = ()
    rotated: str = field(default="", repr=False)
    file: Stamp | None = None
    fetching: asyncio.Task[str] | None = None


class Tokens:
    """One for all routes. fetch: asks an endpoint with a form."""

    def __init__(self, secrets: Secrets, monotonic: Callable[[], float], fetch: Fetch) -> None:
        self._secrets, self._now, self._fetch = secrets, monotonic, fetch
        self._kept: dict[str, _Kept] = {}

    async def get(self, route: str, oauth: Oauth) -> str:
        """An access token that is good for a while. NoToken."""
        kept = self._kept.get(route)
        if kept is None or kept.oauth != oauth:
            kept = self._kept[route] = _Kept(oauth)
        if self._now() < kept.until:
            if kept.failure is None:
                return kept.token
            if kept.stamps == _stamps(oauth):
                raise NoToken(str(kept.failure), fault=kept.failure.fault)
        if kept.fetching is None:
            kept.until, kept.failure = 0.0, None
            kept.fetching = asyncio.get_running_loop().create_task(self._renew(kept))
            kept.fetching.add_done_callback(partial(_fetched, kept))
        return await asyncio.shield(kept.fetching)  # who is cancelled leaves the others their answer

    def drop(self, route: str, token: str) -> None:
        """Do not use this token again: a host refused it."""
        kept = self._kept.get(route)
        if kept is not None and token == kept.token:
            kept.until = 0.0

    async def close(self) -> None:
        """End what is under way."""
        tasks = [kept.fetching for kept in self._kept.values() if kept.fetching is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self, kept: _Kept) -> str:
        kept.stamps = _stamps(kept.oauth)
        host = urlsplit(kept.oauth.token_url).hostname or ""
        try:
            answer = await self._fetch(kept.oauth.token_url, self._form(kept))
        except NoSecret as error:
            kept.failure = NoToken(str(error), fault=True)
        except NoToken as error:
            kept.failure = NoToken(f"{host}: {error}", fault=error.fault)
        if kept.failure is not None:
            kept.until = self._now() + COMPLAINT
            raise kept.failure
        kept.token = answer.access
        kept.until = self._now() + answer.life - min(EARLY_MOST, answer.life * EARLY_SHARE)
        kept.rotated = answer.refresh or kept.rotated
        return kept.token

    def _form(self, kept: _Kept) -> dict[str, str]:
        """RFC 6749 sections 4.4.2 and 6, the client's secret in the form (2.3.1). NoSecret."""
        oauth = kept.oauth
        form = {"grant_type": "client_credentials", "client_id": oauth.client_id}
        refresh = self._refresh(kept)
        if refresh:
            form |= {"grant_type": "refresh_token", "refresh_token": refresh}
        secret = self._secret("client_secret", oauth.client_secret, oauth.client_secret_file)
        if secret:
            form["client_secret"] = secret
        if oauth.scope:
            form["scope"] = oauth.scope
        return form

    def _refresh(self, kept: _Kept) -> str:
        """The newest one: rotated since the file was written, or the file's."""
        path = kept.oauth.refresh_token_file
        now = stamp(path) if path else None
        if now != kept.file:
            kept.rotated, kept.file = "", now
        return kept.rotated or self._secret("refresh_token", kept.oauth.refresh_token, path)

    def _secret(self, key: str, given: SecretStr | None, path: Path | None) -> str:
        if path is None:
            return given.get_secret_value() if given else ""
        try:
            return self._secrets.read(path)
        except NoSecret as error:
            raise NoSecret(f"{key}_file {error}") from None


def _stamps(oauth: Oauth) -> tuple[Stamp | None, ...]:
    return stamps(path for path in (oauth.client_secret_file, oauth.refresh_token_file) if path is not None)


def _fetched(kept: _Kept, task: asyncio.Task[str]) -> None:
    kept.fetching = None
    if not task.cancelled():
        task.exception()  # whoever asked has been told, if he is still there
