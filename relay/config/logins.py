"""What a route that logs in must say: whose secret, to whom, over what; and where its secrets are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath

from relay.config.finding import Finding
from relay.config.model import Config, Lane, Oauth, Route
from relay.config.problem import Path
from relay.routing.via import parse_via

DIRECTORY = "CREDENTIALS_DIRECTORY"  # of systemd's LoadCredential=
OF_SERVICE = "/run/credentials/relay.service"  # that of systemd/relay.service


def beside_service(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment of a command that an operator types: the secrets are those of the service."""
    return {DIRECTORY: OF_SERVICE, **environ}


def located(config: Config, environ: Mapping[str, str]) -> Config:
    """A secret's file without a full path lies where the service manager puts credentials, if it has any."""
    directory = environ.get(DIRECTORY, "")
    if not directory.startswith("/"):
        return config
    routes = tuple(_located(route, FilePath(directory)) for route in config.routes)
    return config if routes == config.routes else config.model_copy(update={"routes": routes})


def _located(route: Route, directory: FilePath) -> Route:
    changes: dict[str, object] = {}
    if route.password_file is not None:
        changes["password_file"] = directory / route.password_file
    if route.oauth is not None:
        files = {key: directory / path for key, path in _oauth_files(route.oauth)}
        changes["oauth"] = route.oauth.model_copy(update=files)
    return route.model_copy(update=changes) if changes else route


def _oauth_files(oauth: Oauth) -> list[tuple[str, FilePath]]:
    found = [(key, getattr(oauth, key)) for key in ("client_secret_file", "refresh_token_file")]
    return [(key, path) for key, path in found if path is not None]


def logins(config: Config) -> Iterator[Finding]:
    """Every conflict between the keys of a login."""
    yield from _ca_file(config.mx, ("mx",))
    for place, route in enumerate(config.routes):
        yield from _ca_file(route, ("routes", place))
        yield from _login(route, ("routes", place))


def _ca_file(lane: Lane, path: Path) -> Iterator[Finding]:
    if lane.ca_file is not None and not lane.ca_file.is_absolute():
        yield Finding((*path, "ca_file"), f"{str(lane.ca_file)!r} is no full path; write it from / on")


def _login(route: Route, path: Path) -> Iterator[Finding]:
    if route.password_file is not None:
        yield from _full(route.password_file, (*path, "password_file"))
    given = [key for key in ("password", "password_file", "oauth") if getattr(route, key) is not None]
    if not route.username:
        if given:
            yield Finding((*path, given[0]), "a secret without a user; write username: as well")
        return
    if not given:
        text = "a user without a secret; write password_file: or oauth: as well"
        also = tuple((*path, key) for key in ("password", "password_file", "oauth"))
        yield Finding((*path, "username"), text, also)
    if route.password is not None and not route.password.get_secret_value():
        yield Finding((*path, "password"), "an empty password; write it, or password_file:")
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


def _full(file: FilePath, path: Path) -> Iterator[Finding]:
    if not file.is_absolute():
        text = f"{str(file)!r} is no full path, and {DIRECTORY} is not set; write it from / on"
        yield Finding(path, f"{text}, such as {OF_SERVICE}/{file.name}")


def _oauth(oauth: Oauth, path: Path) -> Iterator[Finding]:
    for key, file in _oauth_files(oauth):
        yield from _full(file, (*path, key))
    for one in ("client_secret", "refresh_token"):
        both = getattr(oauth, one) is not None and getattr(oauth, f"{one}_file") is not None
        if both:
            yield Finding((*path, one), f"{one} and {one}_file; write one of them", ((*path, f"{one}_file"),))
    if not any(
        (oauth.client_secret, oauth.client_secret_file, oauth.refresh_token, oauth.refresh_token_file)
    ):
        yield Finding(path, "no secret; write refresh_token_file: or client_secret_file:")
