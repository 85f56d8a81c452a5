"""What a login is made with: the password from its file, or the token from its endpoint."""

from __future__ import annotations

from relay.delivery.login import Credential
from relay.delivery.oauth import NoToken, Tokens
from relay.delivery.secret import NoSecret, Secrets, stamps
from relay.routing.login import Login


class NoCredential(Exception):
    """reason: "auth" or "token"; fault: False for what may be over soon; stamps: of the files as they were
    when they were read; the text names no secret."""

    def __init__(self, reason: str, text: str, stamps: tuple[object, ...], *, fault: bool) -> None:
        super().__init__(text)
        self.reason, self.stamps, self.fault = reason, stamps, fault


class Credentials:
    """One for all routes."""

    def __init__(self, secrets: Secrets, tokens: Tokens) -> None:
        self._secrets, self._tokens = secrets, tokens

    async def of(self, route: str, login: Login) -> Credential:
        """What to log in with now. NoCredential."""
        before = stamps(login.files)
        if login.oauth is None:
            try:
                return Credential(login.username, self._password(login), False, before)
            except NoSecret as error:
                raise NoCredential("auth", f"password_file {error}", before, fault=True) from None
        try:
            token = await self._tokens.get(route, login.oauth)
        except NoToken as error:
            raise NoCredential("token", str(error), before, fault=error.fault) from None
        return Credential(login.username, token, True, before)

    def refused(self, route: str, credential: Credential) -> None:
        """The host did not take it: a token is not used again."""
        if credential.oauth:
            self._tokens.drop(route, credential.secret)

    def _password(self, login: Login) -> str:
        if login.password_file is None:
            return login.password.get_secret_value() if login.password else ""
        return self._secrets.read(login.password_file)
