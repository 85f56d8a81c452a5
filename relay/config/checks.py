"""What no single key can say: conflicts between keys. What is odd but legal stands in cautions.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path as FilePath

from relay.config.address import is_ip, parse_endpoint
from relay.config.finding import Finding
from relay.config.logins import logins
from relay.config.model import Config, Route
from relay.config.presets import PRESETS
from relay.config.problem import Path
from relay.config.units import format_duration
from relay.routing.via import Via, parse_via

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def findings(config: Config) -> Iterator[Finding]:
    """Every conflict, in no order."""
    for check in _CHECKS:
        yield from check(config)


def _listeners(config: Config) -> Iterator[Finding]:
    """TLS needs a certificate, AUTH needs users and, unless said otherwise, TLS."""
    for place, listener in enumerate(config.listeners):
        path: Path = ("listeners", place)
        if listener.tls != "off" and not config.tls.certificate:
            text = f"{listener.tls} without a certificate; write tls: {{certificate: ..., key: ...}}"
            yield Finding((*path, "tls"), text, (("tls",),))
        if listener.auth == "off":
            continue
        if not config.users_file:
            text = (
                f"{listener.auth} without users; write users_file: /etc/relay/users (relay user add makes it)"
            )
            yield Finding((*path, "auth"), text, (("users_file",),))
        if listener.tls == "off" and listener.auth_over == "tls":
            text = "passwords would pass in clear; write tls: starttls, or auth_over: clear if that is meant"
            yield Finding((*path, "auth"), text, ((*path, "tls"), (*path, "auth_over")))


def _certificate(config: Config) -> Iterator[Finding]:
    tls = config.tls
    if bool(tls.certificate) != bool(tls.key):
        lacking = "key" if tls.certificate else "certificate"
        yield Finding(("tls",), f"a certificate and its key go together; write {lacking}: as well")


def _sockets(config: Config) -> Iterator[Finding]:
    taken: list[tuple[Path, str]] = []
    listeners = [
        (("listeners", place, "address"), each.address) for place, each in enumerate(config.listeners)
    ]
    for path, address in [*listeners, (("admin", "address"), config.admin.address)]:
        for other, its_address in taken:
            if _collide(address, its_address):
                what = ".".join(map(str, other))
                text = f"{address} is taken by {what} ({its_address}); write another port"
                yield Finding(path, text, (other,))
                break
        taken.append((path, address))


def _collide(one: str, other: str) -> bool:
    """True when both cannot be listened on at once: the same port, and the same address or a wildcard."""
    host, port = parse_endpoint(one)
    other_host, other_port = parse_endpoint(other)
    if port != other_port or port == 0:
        return False
    if not (is_ip(host) and is_ip(other_host)):
        return host.lower() == other_host.lower()
    left, right = ip_address(host), ip_address(other_host)
    return left.version == right.version and (left == right or left.is_unspecified or right.is_unspecified)


def _paths(config: Config) -> Iterator[Finding]:
    if not config.spool.is_absolute():
        yield Finding(("spool",), f"{str(config.spool)!r} is not a full path; write one that begins with /")
    elif config.spool == FilePath("/"):
        yield Finding(("spool",), "the root directory is no spool; write a directory of its own")
    for place, route in enumerate(config.routes):
        directory = captured(route)
        if directory and (directory == config.spool or config.spool in directory.parents):
            text = f"{directory} lies in the spool; write a directory outside {config.spool}"
            yield Finding(("routes", place, "via"), text, (("spool",),))


def captured(route: Route) -> FilePath | None:
    """The directory of a route that sends nothing."""
    if isinstance(route.via, str) and route.via.startswith("capture:"):
        return FilePath(route.via.removeprefix("capture:"))
    return None


def _circles(config: Config) -> Iterator[Finding]:
    """A next hop that is one of our own listeners."""
    for place, route in enumerate(config.routes):
        hops = () if isinstance(route.via, str) else tuple(map(parse_via, route.via))
        for number, listener in enumerate(config.listeners):
            if any(_leads_to(hop, listener.address) for hop in hops):
                text = f"{listener.address} is where this relay listens, mail would go round in a circle"
                also: tuple[Path, ...] = (("listeners", number, "address"),)
                yield Finding(("routes", place, "via"), f"{text}; write another next hop", also)


def _leads_to(hop: Via, listener: str) -> bool:
    """As far as the configuration alone can tell: the same text, or this machine and its wildcard address."""
    host, port = parse_endpoint(listener)
    if hop.port != port:
        return False
    if hop.host == host.lower():
        return True
    if hop.host == "localhost":
        return is_ip(host) and (ip_address(host).is_loopback or ip_address(host).is_unspecified)
    both = is_ip(hop.host) and is_ip(host)
    return both and ip_address(hop.host).is_loopback and ip_address(host).is_unspecified


def _names(config: Config) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for place, route in enumerate(config.routes):
        path: Path = ("routes", place, "name")
        if route.name == "mx":
            yield Finding(path, "'mx' is the name of mail without a route; write another")
        elif not _NAME.fullmatch(route.name):
            yield Finding(path, f"{route.name!r} is no name; write up to 64 letters, digits, dots, - and _")
        elif route.name in seen:
            first = seen[route.name]
            text = f"{route.name!r} is also the name of routes.{first}; write another"
            yield Finding(path, text, (("routes", first, "name"),))
        seen.setdefault(route.name, place)


def _presets(config: Config) -> Iterator[Finding]:
    for place, route in enumerate(config.routes):
        if route.preset is None or route.via != "mx":
            continue
        path: Path = ("routes", place, "preset")
        where = PRESETS[route.preset].where
        if where:
            text = f"{route.preset} has a host for each region; write via: {where} with yours"
        else:
            text = f"{route.preset} names its host, and via: mx sends elsewhere; remove via"
        yield Finding(path, text, (("routes", place, "via"),))


def _retry(config: Config) -> Iterator[Finding]:
    retry = config.retry
    schedule: Path = ("retry", "schedule")
    for place, wait in enumerate(retry.schedule):
        if not wait:
            yield Finding((*schedule, place), "a wait of 0; write at least 1s")
    for place, (before, wait) in enumerate(pairwise(retry.schedule), 1):
        if 0 < wait < before:
            least = format_duration(before)
            text = f"{format_duration(wait)} is shorter than the wait before it; write at least {least}"
            yield Finding((*schedule, place), text)
    if retry.cap < retry.schedule[-1]:
        last = format_duration(retry.schedule[-1])
        text = (
            f"{format_duration(retry.cap)} is less than the last wait of the schedule; write at least {last}"
        )
        yield Finding(("retry", "cap"), text, (schedule,))
    if retry.give_up <= retry.schedule[0]:
        first = format_duration(retry.schedule[0])
        text = (
            f"{format_duration(retry.give_up)} ends before the first retry ({first}); write more, such as 5d"
        )
        yield Finding(("retry", "give_up"), text, (schedule,))
    if retry.warn_after is not None and not 0 < retry.warn_after < retry.give_up:
        text = f"a warning after {format_duration(retry.warn_after)} would never be sent usefully"
        text += f"; write less than give_up ({format_duration(retry.give_up)}), or never"
        yield Finding(("retry", "warn_after"), text, (("retry", "give_up"),))


def _limits(config: Config) -> Iterator[Finding]:
    if not config.limits.message_size:  # to clients SIZE 0 means: no limit (RFC 1870 section 3)
        yield Finding(
            ("limits", "message_size"), "0 would refuse every message; write a limit, such as 50MiB"
        )


def _delivery(config: Config) -> Iterator[Finding]:
    source, ip = config.delivery.source_address, config.delivery.ip
    if source and ip != "both" and str(ip_address(source).version) != ip:
        text = f"{source} is not IPv{ip}; write an IPv{ip} address, or ip: both"
        yield Finding(("delivery", "source_address"), text, (("delivery", "ip"),))


_CHECKS: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _listeners,
    _certificate,
    logins,
    _sockets,
    _paths,
    _circles,
    _names,
    _presets,
    _retry,
    _limits,
    _delivery,
)
