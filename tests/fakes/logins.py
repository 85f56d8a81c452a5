"""Logins: the server's side of AUTH, with one user, for ScriptedServer."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass, field

CHALLENGE = "<1896.697170952@mx.example.net>"
BAD = "535 5.7.8 Authentication credentials invalid"
SECRET = "correct horse"
GOOD = "235 2.7.0 Authentication successful"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class Logins:
    """user, secret: the one who may log in; both may be changed. refusal: what a failed login is told. tried:
    (mechanism, user, secret) in order, for CRAM-MD5 with the digest."""

    user: str = "relay"
    secret: str = SECRET
    refusal: str = BAD
    tried: list[tuple[str, str, str]] = field(default_factory=list)
    _mechanism: str = ""
    _said: list[str] = field(default_factory=list)

    def begin(self, command: str) -> str:
        """The reply to an AUTH command."""
        _, self._mechanism, *initial = command.split(" ")
        self._said = []
        if self._mechanism not in ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"):
            return "504 5.5.4 unknown mechanism"
        if len(command) > 510:
            return "500 5.5.6 line too long"
        return self.respond(initial[0]) if initial else self._challenge()

    def respond(self, line: str) -> str:
        """The reply to a line of the dialogue."""
        if self._mechanism == "XOAUTH2" and self._said:
            return self.refusal if line == "" else "501 5.5.2 an empty line was due"
        self._said.append(base64.b64decode(line, validate=True).decode())
        if self._mechanism == "LOGIN" and len(self._said) < 2:
            return self._challenge()
        return self._judge()

    def _challenge(self) -> str:
        prompts = {"LOGIN": ("Username:", "Password:"), "CRAM-MD5": (CHALLENGE,)}
        return f"334 {encoded(prompts.get(self._mechanism, ('', ''))[len(self._said)])}"

    def _judge(self) -> str:
        user, secret = self._claim()
        self.tried.append((self._mechanism, user, secret))
        wanted = self.secret
        if self._mechanism == "CRAM-MD5":
            wanted = hmac.new(self.secret.encode(), CHALLENGE.encode(), "md5").hexdigest()
        if (user, secret) == (self.user, wanted):
            return GOOD
        if self._mechanism == "XOAUTH2":
            return f"334 {encoded(json.dumps({'status': '401', 'schemes': 'bearer'}))}"
        return self.refusal

    def _claim(self) -> tuple[str, str]:
        first = self._said[0]
        if self._mechanism == "PLAIN":
            identity, user, secret = first.split("\0")
            assert identity == ""
            return user, secret
        if self._mechanism == "LOGIN":
            return first, self._said[1]
        if self._mechanism == "CRAM-MD5":
            user, _, digest = first.rpartition(" ")
            return user, digest
        user, bearer, *ends = first.split("\x01")
        assert ends == ["", ""] and user.startswith("user=") and bearer.startswith("auth=Bearer ")
        return user.removeprefix("user="), bearer.removeprefix("auth=Bearer ")


def forms(secret: str, user: str = "relay") -> list[bytes]:
    """All that a secret looks like on the wire."""
    plain = f"\0{user}\0{secret}", secret, f"user={user}\x01auth=Bearer {secret}\x01\x01"
    digest = hmac.new(secret.encode(), CHALLENGE.encode(), "md5").hexdigest()
    encoded = [base64.b64encode(text.encode()) for text in (*plain, f"{user} {digest}")]
    return [secret.encode(), digest.encode(), *encoded]
