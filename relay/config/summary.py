"""A configuration in a few lines, as `relay check` prints it."""

from __future__ import annotations

from relay.config.model import Config, Lane, Listener, Rewrite, Route
from relay.config.units import format_duration, format_size
from relay.observe.text import plural

OVER = {"encrypted": "over unverified TLS", "clear": "without TLS"}


def summary(config: Config) -> list[str]:
    """One fact a line, labels aligned. No secret is among them."""
    retry, limits = config.retry, config.limits
    waits = ", ".join(format_duration(wait) for wait in retry.schedule)
    warning = (
        "no delay warning" if retry.warn_after is None else f"warns after {format_duration(retry.warn_after)}"
    )
    rows = [
        ("hostname", config.hostname),
        *(("listener", _listener(each)) for each in config.listeners),
        *_served(config),
        ("may relay", _relayers(config)),
        *(("rewrite", _rewrite(rule)) for rule in config.rewrite),
        *(("route", _route(route)) for route in config.routes),
        *_by_mx(config),
        ("spool", f"{config.spool} (keeps {format_size(limits.spool_reserve)} of the disk free)"),
        ("message", f"at most {format_size(limits.message_size)}, {plural(limits.recipients, 'recipient')}"),
        (
            "retry",
            f"after {waits}, then {retry.factor:g} times longer each, at most {format_duration(retry.cap)}",
        ),
        ("give up", f"after {format_duration(retry.give_up)}; {warning}"),
        ("postmaster", config.postmaster or "none: what cannot bounce is logged and counted"),
        ("admin", config.admin.address),
    ]
    return [f"  {label:<10}  {text}" for label, text in rows]


def _listener(listener: Listener) -> str:
    clear = " (also without TLS)" if listener.auth != "off" and listener.auth_over == "clear" else ""
    proxies = f", PROXY from {', '.join(listener.proxy_from)}" if listener.proxy_from else ""
    return f"{listener.address} (tls {listener.tls}, auth {listener.auth}{clear}{proxies})"


def _served(config: Config) -> list[tuple[str, str]]:
    """What the listeners show to clients, and whom they know; a row only where there is something."""
    tls = config.tls
    return [
        (label, text)
        for label, wanted, text in (
            ("tls", tls.certificate, f"certificate {tls.certificate}, key {tls.key}"),
            ("users", config.users_file, str(config.users_file)),
            ("origin", config.origin, f"{config.origin}, for addresses without a domain"),
        )
        if wanted
    ]


def _relayers(config: Config) -> str:
    """Who may relay, over all listeners."""
    by_address = any(each.auth != "required" for each in config.listeners)
    users = ["who logs in"] if any(each.auth != "off" for each in config.listeners) else []
    return ", ".join([*(config.trusted_networks if by_address else ()), *users]) or "nobody"


def _by_mx(config: Config) -> list[tuple[str, str]]:
    """No row where a route takes all mail."""
    if any(route.to is None and route.from_ is None for route in config.routes):
        return []
    which = "all other mail" if config.routes else "all mail"
    return [("route", f"mx: {which} -> MX hosts, port {config.mx.port} ({_lane(config.mx)})")]


def _rewrite(rule: Rewrite) -> str:
    return f"{rule.from_} -> {rule.to}{' (also in the From header)' if rule.header else ''}"


def _route(route: Route) -> str:
    to = "any domain" if route.to is None else ", ".join(route.to)
    sender = "" if route.from_ is None else f" from {', '.join(route.from_)}"
    via = (
        "MX hosts" if route.via == "mx" else route.via if isinstance(route.via, str) else ", ".join(route.via)
    )
    total = f", {route.connections} in all" if route.connections else ""
    return f"{route.name}: {to}{sender} -> {via} ({_lane(route)}{total}{_login(route)})"


def _login(route: Route) -> str:
    if not route.username:
        return ""
    over = "" if route.login_over == "verified" else f", also {OVER[route.login_over]}"
    return f", logs in as {route.username} by {'XOAUTH2' if route.oauth else 'password'}{over}"


def _lane(lane: Lane) -> str:
    rate = f", at most {lane.rate}" if lane.rate else ""
    usual = Lane.model_fields["messages_per_connection"].default
    most = lane.messages_per_connection
    each = f" of {plural(most, 'message')} each" if most != usual else ""
    return f"tls {lane.tls}, {plural(lane.concurrency, 'connection')}{each}{rate}"
