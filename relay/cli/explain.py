"""`relay explain ADDRESS`: where mail to it would go now, and the lane's health when the relay runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relay.cli.daemon import Daemon, NotRunning
from relay.cli.exits import DATA, OK, UNAVAILABLE, Trouble
from relay.cli.source import configuration
from relay.cli.story import beside, lane_standing
from relay.cli.terminal import columns, fitted
from relay.observe.text import plural, printable

if TYPE_CHECKING:
    from relay.config.model import Config

OVER = {
    "verified": "only over verified TLS",
    "encrypted": "also over unverified TLS",
    "clear": "also without TLS",
}
NOT_RUNNING = "the relay does not run"


def run(args: argparse.Namespace) -> int:
    """Asks the daemon; without one, the configuration and DNS."""
    sender = "" if args.sender == "<>" else args.sender
    config = None if args.spool else configuration(args.config)
    args.address = _completed(args.address, config)
    sender = _completed(sender, config) if sender else ""
    facts = _facts(config, args, sender)
    if args.json:
        print(json.dumps(facts))
    else:
        print("\n".join(fitted(told(facts), columns())))
    return OK


def _completed(address: str, config: Config | None) -> str:
    """As the front completes it."""
    if "@" in address:
        return address
    if config is None:
        raise Trouble(f"{address!r} is not an address", DATA)
    return f"{address}@{config.origin or config.hostname}"


def _facts(config: Config | None, args: argparse.Namespace, sender: str) -> dict[str, Any]:
    try:
        daemon = Daemon(config.spool if config else args.spool)
    except NotRunning:
        if config is None:
            text = f"{NOT_RUNNING}; name its configuration with -c FILE instead of --spool"
            raise Trouble(text, UNAVAILABLE) from None
        return asyncio.run(asked(config, args.address, sender))
    except Trouble as trouble:  # not our spool: same routes, same DNS
        if config is None:
            raise
        return asyncio.run(asked(config, args.address, sender)) | {"lane_unknown": str(trouble)}
    try:
        request = {"command": "explain", "address": args.address, "from": sender}
        return next(daemon.ask(request))
    finally:
        daemon.close()


async def asked(config: Config, recipient: str, sender: str) -> dict[str, Any]:
    """The answer of the route table and DNS, without a relay."""
    from relay.front.rewrite import Rewriter
    from relay.observe.events import Events
    from relay.routing.explain import describe
    from relay.routing.resolve import Resolver
    from relay.routing.table import RouteTable

    resolver = Resolver.of(config, Events())
    try:
        return await describe(
            RouteTable(config), resolver, recipient, sender, Rewriter(config.rewrite).sender
        )
    finally:
        await resolver.close()


def told(facts: dict[str, Any]) -> Iterator[str]:
    """The facts (relay/routing/explain.py) in lines."""
    sender = facts.get("sender") or "<>"
    original = f", rewritten from {printable(facts['orig_from'])}" if facts.get("orig_from") else ""
    yield f"{printable(facts['recipient'])} from {printable(sender)}{original}"
    yield f"  lane       {facts['lane']} (route: {facts['route']})"
    yield f"  TLS        {facts['tls']}" + (f", by {facts['ca_file']}" if facts.get("ca_file") else "")
    if facts.get("username"):
        files = " and ".join(map(printable, facts.get("login_files", ())))
        how = f"by {facts['login_by']}" + (f" from {files}" if files else "")
        how += f", {OVER[facts['login_over']]}"
        yield f"  login      {printable(facts['username'])}, {how}"
    each = plural(facts["messages_per_connection"], "message")
    yield f"  at a time  {plural(facts['concurrency'], 'connection')}, {each} each"
    if facts.get("connections"):
        text = plural(facts["connections"], "connection")
        yield f"             {text} to all domains of the route together"
    if facts.get("rate"):
        yield f"  rate       {facts['rate']}"
    if facts["verdict"] == "capture":
        yield f"  written to {facts['capture']} instead of being sent"
    elif facts["verdict"] == "failed":
        yield f"  would bounce: {printable(facts['reply'])}"
    elif facts["verdict"] == "deferred":
        yield f"  would wait: {printable(facts['reply'])}"
    for host in facts["hosts"]:
        yield from _host(host)
    yield from _lane(facts)


def _host(host: dict[str, Any]) -> Iterator[str]:
    preference = f" (preference {host['preference']})" if host["preference"] else ""
    note = f": {printable(host['text'])}" if host["text"] else ""
    used = "" if host["state"] == "usable" else f" [{host['state']}]"
    yield f"  host       {printable(host['name'])} port {host['port']}{preference}{used}{note}"
    for address in host["addresses"]:
        yield f"               {address}"
    for refused in host["refused"]:
        yield f"               {refused['address']} refused: {refused['why']}"


def _lane(facts: dict[str, Any]) -> Iterator[str]:
    waiting = sum(tally["messages"] for tally in facts.get("queue", {}).values())
    if "queue" in facts:
        yield f"  queued     {waiting}"
    if "lane_state" in facts:
        state, now = facts["lane_state"], time.time()
        yield f"  lane now   {lane_standing(state, now) or 'no trouble known'}"
        for text in beside(state, now):
            yield f"             {text}"
    else:
        yield f"  lane now   unknown: {facts.get('lane_unknown', NOT_RUNNING)}"
