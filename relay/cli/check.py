"""`relay check -c FILE [--json]`: is the configuration good, and what does it say?

Nothing is started or asked: the file and the RELAY__ variables are read, and what they name is looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from relay.cli.terminal import columns, fitted
from relay.config.load import load
from relay.config.logins import beside_service
from relay.config.machine import warnings
from relay.config.model import Config
from relay.config.problem import ConfigErrors
from relay.config.summary import summary
from relay.users.reading import complaints


def run(args: argparse.Namespace) -> int:
    """args: config (a path, or None for the defaults), json. Returns 0 or EX_CONFIG (78)."""
    path = Path(args.config) if args.config else None
    name = str(path) if path else "defaults"
    try:
        config = load(path, beside_service(os.environ))
    except ConfigErrors as errors:
        return _bad(name, errors, args.json)
    warned = _warnings(config, path)
    if args.json:
        print(json.dumps(_facts(name, config, warned)))
        return os.EX_OK
    print(f"{name}: ok")
    for line in fitted((*summary(config), *(f"warning: {text}" for text in warned)), columns()):
        print(line)
    return os.EX_OK


def _warnings(config: Config, path: Path | None) -> list[str]:
    """Of the configuration, of what it meets here, and of the users it names."""
    users = [] if config.users_file is None else complaints(config.users_file)
    return [*warnings(config, path, os.environ), *(f"users_file: {text}" for text in users)]


def _bad(name: str, errors: ConfigErrors, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"file": name, "ok": False, "problems": [asdict(each) for each in errors.problems]}))
    else:
        print(errors, file=sys.stderr)
    return os.EX_CONFIG


def _facts(name: str, config: Config, warned: list[str]) -> dict[str, object]:
    values = config.model_dump(mode="json", by_alias=True)
    return {"file": name, "ok": True, "problems": [], "warnings": warned, "config": values}
