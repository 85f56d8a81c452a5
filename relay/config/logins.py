"""What a route that logs in must say: whose secret, to whom, over what."""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.finding import Finding
from relay.config.model import Config, Oauth, Route
from relay.config.problem import Path
from relay.routing.via import parse_via


def logins(config: Config) -> Iterator[Finding]:
    """Every conflict between the keys of a login."""
    for place, route in enumerate(config.routes):
        yield from _login(route, ("routes", place))


def _login(route: Route, path: Path) -> Iterator[Finding]:
    given = [key for key in ("password", "password_file", "oauth") if getattr(route, key) is not None]
    if not route.username:
        if given:
            yield Finding((*path, given[0]), "a secret without a user; write username: as well")
        return
    if not given:
        yield Finding((*path, "username"), "a user without a secret; write password_file: or oauth: as well")
    if len(given) > 1:
        yield Finding(
            (*path, given[1]), f"{given[0]} and {given[1]}; write one of them", ((*path, given[0]),)
        )
    if isinstance(route.via, str):
        text = "a user for hosts that are not named; write via: with the hosts to log in at"
        yield Finding((*path, "username"), text, ((*path, "via"),))
    elif _weaker(route):
        text = f"the password could go to anybody over tls: {route.tls}; write tls: verify"
        text += f", or login_over: {_weaker(route)} if that is meant"
        yield Finding((*path, "username"), text, ((*path, "tls"), (*path, "login_over")))
    if route.oauth is not None:
        yield from _oauth(route.oauth, (*path, "oauth"))


def _weaker(route: Route) -> str:
    """What login_over must say for this route's TLS, "" when it says enough."""
    always = all(parse_via(hop).implicit_tls for hop in route.via)
    if route.tls == "verify" or route.login_over == "clear":
        return ""
    if route.tls == "require" or always:
        return "" if route.login_over == "encrypted" else "encrypted"
    return "" if route.tls == "opportunistic" and route.login_over == "encrypted" else "clear"


def _oauth(oauth: Oauth, path: Path) -> Iterator[Finding]:
    for one in ("client_secret", "refresh_token"):
        both = getattr(oauth, one) is not None and getattr(oauth, f"{one}_file") is not None
        if both:
            yield Finding((*path, one), f"{one} and {one}_file; write one of them", ((*path, f"{one}_file"),))
    if not any(
        (oauth.client_secret, oauth.client_secret_file, oauth.refresh_token, oauth.refresh_token_file)
    ):
        yield Finding(path, "no secret; write refresh_token_file: or client_secret_file:")
