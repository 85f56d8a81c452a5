"""A configuration in a few lines, as `relay check` prints it."""

from __future__ import annotations

from relay.config.model import Config, Lane, Route
from relay.config.units import format_duration, format_size


def summary(config: Config) -> list[str]:
    """One fact a line, labels aligned."""
    retry, limits = config.retry, config.limits
    waits = ", ".join(format_duration(wait) for wait in retry.schedule)
    warning = (
        "no delay warning" if retry.warn_after is None else f"warns after {format_duration(retry.warn_after)}"
    )
    rows = [
        ("hostname", config.hostname),
        *(("listener", f"{each.address} (tls {each.tls}, auth {each.auth})") for each in config.listeners),
        ("may relay", ", ".join(config.trusted_networks) or "nobody"),
        *(("route", _route(route)) for route in config.routes),
        ("route", f"mx: all other mail -> MX hosts, port {config.mx.port} ({_lane(config.mx)})"),
        ("spool", f"{config.spool} (keeps {format_size(limits.spool_reserve)} of the disk free)"),
        ("message", f"at most {format_size(limits.message_size)}, {limits.recipients} recipients"),
        (
            "retry",
            f"after {waits}, then {retry.factor:g} times longer each, at most {format_duration(retry.cap)}",
        ),
        ("give up", f"after {format_duration(retry.give_up)}; {warning}"),
        ("postmaster", config.postmaster or "none: what cannot bounce is logged and counted"),
        ("admin", config.admin.address),
    ]
    return [f"  {label:<10}  {text}" for label, text in rows]


def _route(route: Route) -> str:
    to = "any domain" if route.to is None else ", ".join(route.to)
    sender = "" if route.from_ is None else f" from {', '.join(route.from_)}"
    via = (
        "MX hosts" if route.via == "mx" else route.via if isinstance(route.via, str) else ", ".join(route.via)
    )
    return f"{route.name}: {to}{sender} -> {via} ({_lane(route)})"


def _lane(lane: Lane) -> str:
    return f"tls {lane.tls}, {lane.concurrency} connections"
