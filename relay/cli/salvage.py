"""`relay queue salvage`: brings back what a damaged database that was moved aside still proves."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mailqueue.salvage import moved_aside
from relay.cli.exits import NO_INPUT, OK, USAGE, Trouble
from relay.cli.source import Source, open_source, spool_of
from relay.cli.words import cut
from relay.observe.text import plural


def run(args: argparse.Namespace) -> int:
    """Every directory that is meant, one after the other. Trouble when one cannot be read."""
    spool = spool_of(args).absolute()
    source = open_source(spool)  # first: to open a spool may move its database aside
    try:
        directories = chosen(spool, args.directory, args.everything)
        if not directories and not args.json:
            print("no damaged database was moved aside")
        codes = [_tried(source, directory, args) for directory in directories]
    finally:
        source.close()
    return max(codes, default=OK)


def _tried(source: Source, directory: Path, args: argparse.Namespace) -> int:
    """One that cannot be read is not in the way of the others."""
    try:
        _salvage(source, directory, args)
    except Trouble as trouble:
        print(f"relay: {trouble}", file=sys.stderr)
        return trouble.code
    return OK


def chosen(spool: Path, named: Path | None, everything: bool) -> list[Path]:
    """The directories that are meant. A name may be that of a directory, in the spool or anywhere, or of its
    queue.db."""
    try:
        present = moved_aside(spool)
    except PermissionError:
        present = []
    if everything or (named is None and not present):
        return present
    if named is None:
        places = "\n  ".join(str(path) for path in present)
        raise Trouble(f"salvage: which one, or --all?\n  {places}", USAGE)
    for place in (named.absolute(), spool / named):
        if place.name in ("queue.db", "queue.db-wal") and not place.is_dir():
            place = place.parent
        if place.is_dir() and place != spool:
            return [place]
    raise Trouble(f"{named}: there is no such directory of a damaged database", NO_INPUT)


def _salvage(source: Source, directory: Path, args: argparse.Namespace) -> None:
    request = {"command": "salvage", "directory": str(directory), "dry_run": args.dry_run}
    for item in source.ask(request):
        if args.json:
            print(json.dumps({key: value for key, value in item.items() if key != "end"}), flush=True)
        elif "end" in item:
            print("\n".join(report(item, directory, args.dry_run)))
        else:
            print(lost_line(item))


def lost_line(item: dict[str, Any]) -> str:
    """One that does not come back."""
    text = f"not brought back: {item['queue_id']}: {item['reason']}"
    if item["recipients"]:
        shown = ", ".join(item["recipients"][:3]) + (", ..." if len(item["recipients"]) > 3 else "")
        text += f" (reads as from <{item['sender']}> to {shown})"
    return cut(text, 0)


def report(totals: dict[str, Any], directory: Path, dry_run: bool) -> list[str]:
    """What became of one directory."""
    if dry_run:
        left = totals["found"] - totals["known"]
        head = f"{directory}: {plural(left, 'message')} can be brought back"
    else:
        head = f"{directory}: {plural(totals['brought_back'], 'message')} brought back"
    if totals["known"]:
        head += f", {totals['known']} were before"
    lines = [f"{head}, {totals['lost']} not"]
    if totals["possibly_delivered"]:
        held = totals["held"]
        lines.append(f"  {totals['possibly_delivered']} of them may have arrived already and wait a while")
        if held:
            lines.append(f"  {held} of these are on hold: relay queue list --state hold")
    if totals["unreadable"]:
        lines.append(f"  {plural(totals['unreadable'], 'page')} cannot be read: more may have stood there")
    return lines
