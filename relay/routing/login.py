"""How a route logs in at its next hops, as a value. Nothing of it shows a secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from relay.config.model import Oauth, Route

Level = Literal["clear", "encrypted", "verified"]


@dataclass(frozen=True, slots=True)
class Login:
    """over: the least that a session must be before a secret is sent. One of password, password_file and
    oauth is there."""

    username: str
    over: Level
    password: SecretStr | None = None
    password_file: Path | None = None
    oauth: Oauth | None = None

    @classmethod
    def of(cls, route: Route) -> Login | None:
        """None: the route does not log in."""
        if not route.username:
            return None
        return cls(route.username, route.login_over, route.password, route.password_file, route.oauth)

    @property
    def by(self) -> str:
        """What proves who we are, in a word: "oauth" or "password"."""
        return "oauth" if self.oauth else "password"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files its secrets are in."""
        oauth = self.oauth
        paths = (oauth.client_secret_file, oauth.refresh_token_file) if oauth else (self.password_file,)
        return tuple(path for path in paths if path is not None)
