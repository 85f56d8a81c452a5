"""What is allowed and probably not meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.config import access
from relay.config.checks import captured
from relay.config.model import Config
from relay.config.units import format_duration
from relay.front.rewrite import Rewriter
from relay.routing.pattern import parse_pattern, parse_rewrite

EVERY_SENDER = parse_rewrite("@*")


def warnings(config: Config) -> list[str]:
    """One line each."""
    return [text for check in _WARNINGS for text in check(config)]


def _warn_name(config: Config) -> Iterator[str]:
    if config.hostname.endswith(".localdomain"):
        text = f"hostname: this machine has no full name, so the relay calls itself {config.hostname}"
        yield f"{text}; write hostname: with the name other servers know it by"


def _warn_routes(config: Config) -> Iterator[str]:
    for place, route in enumerate(config.routes):
        if captured(route):
            yield f"routes.{place}: mail of {route.name!r} is written to files and sent to nobody"
        if route.ca_file is not None and route.tls != "verify":
            yield f"routes.{place}.ca_file: not used with tls: {route.tls}; write tls: verify"
    everything = next(
        (at for at, each in enumerate(config.routes) if each.to is None and each.from_ is None), None
    )
    if everything is not None and everything + 1 < len(config.routes):
        yield f"routes.{everything + 1}: never used, as routes.{everything} takes all mail; put that one last"


def _warn_rewrite(config: Config) -> Iterator[str]:
    seen: dict[tuple[str, str], int] = {}
    for place, rule in enumerate(config.rewrite):
        pattern = parse_rewrite(rule.from_)
        first = seen.get(pattern, seen.get(EVERY_SENDER))
        if first is not None:
            yield f"rewrite.{place}: never used, as rewrite.{first} takes the same senders"
        seen.setdefault(pattern, place)
    header = next((place for place, rule in enumerate(config.rewrite) if rule.header), None)
    if header is not None:
        text = f"rewrite.{header}.header: a DKIM signature made before the relay covers From"
        yield f"{text} and breaks where the rule fits; sign behind the relay"
    yield from _warn_routes_behind(config)


def _warn_routes_behind(config: Config) -> Iterator[str]:
    """Senders that no route sees any more."""
    rewriter = Rewriter(config.rewrite)
    for place, route in enumerate(config.routes):
        for kind, sender in (parse_pattern(each, sender=True) for each in route.from_ or ()):
            if kind == "address" and rewriter.sender(sender) != sender:
                text = f"routes.{place}.from: {sender} is rewritten to {rewriter.sender(sender)} before"
                yield f"{text}; write that address"


def _warn_certificate(config: Config) -> Iterator[str]:
    if config.tls.certificate and all(listener.tls == "off" for listener in config.listeners):
        yield "tls.certificate: no listener shows it, all mail comes in clear; write tls: starttls at one"


def _warn_limits(config: Config) -> Iterator[str]:
    limits, retry = config.limits, config.retry
    if limits.sessions_per_client > limits.sessions:
        yield f"limits.sessions_per_client: over limits.sessions ({limits.sessions}), so it limits nothing"
    if limits.recipients < 100:  # RFC 5321 section 4.5.3.1.8
        yield "limits.recipients: under 100, which every server should take (RFC 5321)"
    if limits.message_size < 65536:  # RFC 5321 section 4.5.3.1.7
        yield "limits.message_size: under 64KiB, which every server should take (RFC 5321)"
    if retry.give_up < sum(retry.schedule):
        yield f"retry.give_up: {format_duration(retry.give_up)} ends before the schedule is used up"


_WARNINGS: tuple[Callable[[Config], Iterator[str]], ...] = (
    _warn_name,
    access.warnings,
    _warn_routes,
    _warn_rewrite,
    _warn_certificate,
    _warn_limits,
)
