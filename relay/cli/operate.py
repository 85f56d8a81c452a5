"""`relay queue ...`: asks the relay, or the spool when it is down, and prints what comes."""

from __future__ import annotations

import argparse
import base64
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from relay.cli import table
from relay.cli.exits import OK
from relay.cli.source import Source, open_source, spool_of
from relay.cli.story import fault_line, remedies, story
from relay.cli.terminal import columns, fitted
from relay.cli.words import octets, short
from relay.observe.text import plural

DONE = {"retry": "will be tried now", "hold": "on hold", "release": "released", "drop": "removed"}


def run(args: argparse.Namespace) -> int:
    """One action; Trouble when it cannot be done."""
    request = request_of(args)
    source = open_source(spool_of(args))
    try:
        return ACTIONS[args.action](args, source, request)
    finally:
        source.close()


def request_of(args: argparse.Namespace) -> dict[str, Any]:
    """The filter fields that were given."""
    request: dict[str, Any] = {"command": args.action}
    for name in ("ids", "sender", "recipient", "lane", "states", "older_than", "younger_than"):
        value = getattr(args, name, None)
        if value:
            request[name] = value
    return request


def _list(args: argparse.Namespace, source: Source, request: dict[str, Any]) -> int:
    if args.json:
        return _objects(source.ask(request))
    layout, now, count = table.Layout.now(), time.time(), 0
    for item in source.ask(request):
        if "end" in item:
            break
        if not count:
            print(table.head(layout))
        count += 1
        print(table.row(item, now, layout))
    if not count:
        print("nothing matches" if len(request) > 1 else "the queue is empty")
    return OK


def _show(args: argparse.Namespace, source: Source, request: dict[str, Any]) -> int:
    if args.content:
        return _content(source.ask(request | {"content": True}))
    if args.json:
        return _objects(source.ask(request))
    now, width = time.time(), columns()
    entries = [item for item in source.ask(request) if "end" not in item]
    for place, (_, group) in enumerate(groupby(entries, key=lambda item: item["queue_id"])):
        if place:
            print()
        print("\n".join(fitted(story(list(group), now), width)))
    return OK


def _content(items: Iterable[dict[str, Any]]) -> int:
    """The message as a file, on standard output."""
    for item in items:
        if "content" in item:
            sys.stdout.buffer.write(base64.b64decode(item["content"]))
    sys.stdout.buffer.flush()
    return OK


def _lanes(args: argparse.Namespace, source: Source, request: dict[str, Any]) -> int:
    if args.json:
        return _objects(source.ask(request))
    now, width, count = time.time(), columns(), 0
    for item in source.ask(request):
        if "end" in item:
            break
        if not count:
            print(table.lane_head(width))
        count += 1
        print("\n".join(table.lane_lines(item, now, width)))
    if not count:
        print("nothing is queued")
    return OK


def _status(args: argparse.Namespace, source: Source, request: dict[str, Any]) -> int:
    if args.json:
        return _objects(source.ask(request))
    now = time.time()
    for item in source.ask(request):
        for state, tally in item.get("states", {}).items():
            age = f", oldest {short(now - tally['oldest'])}" if tally["messages"] else ""
            print(f"{state:10}  {tally['messages']:>8}  {octets(tally['bytes']):>8}{age}")
        faults = item.get("faults", ())
        lines = (f"route {fault['route']}: {fault_line(fault, now)}" for fault in faults)
        for line in fitted((*lines, *remedies(faults)), columns()):
            print(line)
    return OK


def _change(args: argparse.Namespace, source: Source, request: dict[str, Any]) -> int:
    request["all"] = args.everything
    if args.action == "drop" and not (args.dry_run or args.yes) and sys.stdin.isatty():
        count = _count(source.ask(request | {"dry_run": True}))
        answer = input(f"Remove {plural(count, 'message')} for ever, without a bounce? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing removed")
            return OK
    count = _count(source.ask(request | {"dry_run": args.dry_run}))
    if args.json:
        print(json.dumps({"action": args.action, "count": count, "dry_run": args.dry_run}))
    elif not count:
        print("nothing matches")
    else:
        print(f"{plural(count, 'message')} {'match' if args.dry_run else DONE[args.action]}")
    return OK


def _count(items: Iterator[dict[str, Any]]) -> int:
    return sum(int(item.get("count", 0)) for item in items)


def _objects(items: Iterable[dict[str, Any]]) -> int:
    """One JSON object per line, as they come."""
    for item in items:
        if "end" not in item:
            print(json.dumps(item))
    return OK


ACTIONS = {
    "list": _list,
    "show": _show,
    "lanes": _lanes,
    "status": _status,
    "retry": _change,
    "hold": _change,
    "release": _change,
    "drop": _change,
}
