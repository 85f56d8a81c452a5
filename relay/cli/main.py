"""`relay COMMAND`: the arguments. Each command's module is imported only when it is called.

A module has `run(args) -> int` and may raise exits.Trouble. `args.config` is the path of the configuration
or None (none given, none found: the defaults).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from relay import __version__
from relay.cli import exits

PLACES = (Path("/etc/relay/relay.yaml"), Path("relay.yaml"))


class Parser(argparse.ArgumentParser):
    """Ends with EX_USAGE for wrong arguments."""

    def error(self, message: str) -> NoReturn:
        if message.endswith(("COMMAND", "ACTION")):  # it is missing: say which there are
            self.print_help(sys.stderr)
        else:
            self.print_usage(sys.stderr)
        self.exit(exits.USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of one command line."""
    args = parser().parse_args(arguments)
    args.config = find_config(args.config, os.environ)
    if os.getpid() == 1:
        _be_first()
    try:
        code = int(import_module(args.module).run(args))
        sys.stdout.flush()
        return code
    except exits.Trouble as trouble:
        print(f"relay: {trouble}", file=sys.stderr)
        return trouble.code
    except BrokenPipeError:  # `relay queue list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except KeyboardInterrupt:
        return 130


def _be_first() -> None:
    """What the first process of a container owes: SIGTERM, which has no default there, ends it from the
    start; who lost its parent leaves no zombie."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(exits.OK))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def find_config(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file named by -c, by RELAY_CONFIG, or the first of PLACES that exists."""
    if given is not None:
        return given
    if environ.get("RELAY_CONFIG"):
        return Path(environ["RELAY_CONFIG"])
    return next((place for place in PLACES if place.exists()), None)


def parser() -> Parser:
    """All commands. -c may stand before or after the command."""
    top = Parser(
        prog="relay", description="A store-and-forward mail relay.",
        epilog="relay COMMAND --help says more about each.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"relay {__version__}")
    top.add_argument("-c", "--config", type=Path, metavar="FILE", default=None, help=argparse.SUPPRESS)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    config = Parser(add_help=False)
    config.add_argument(
        "-c", "--config", type=Path, metavar="FILE", default=argparse.SUPPRESS,
        help="the configuration; default: $RELAY_CONFIG, /etc/relay/relay.yaml, relay.yaml",
    )  # fmt: skip

    run = _said(commands, "run", "relay mail, in the foreground, until SIGTERM or Ctrl-C", config)
    run.set_defaults(module="relay.cli.run")
    check = _said(commands, "check", "check the configuration, and say what was made of it", config)
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(module="relay.cli.check")
    health = _said(commands, "health", "is the relay here ready for mail? 0: yes; 1: no, and why", config)
    health.set_defaults(module="relay.cli.health")
    _explain(_said(commands, "explain", "where mail to an address would go, and what is in its way", config))
    demo = _said(commands, "demo", "a relay with servers of its own, and what becomes of the mail")
    demo.add_argument("--stay", action="store_true", help="keep running, to try by hand")
    demo.set_defaults(module="relay.demo.story")
    _queue(_said(commands, "queue", "look at the queue and change it"), config)
    _user(_said(commands, "user", "who may log in"), config)
    return top


def _said(
    commands: argparse._SubParsersAction[Any], name: str, text: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """A command; text: what it does, for the list of commands and for its own help."""
    end = "" if text.endswith("?") else "."
    description = f"{text[0].upper()}{text[1:]}{end}"
    made: Parser = commands.add_parser(name, parents=parents, help=text, description=description)
    return made


def _spool(command: argparse.ArgumentParser) -> None:
    text = "the spool's directory, instead of the one that the configuration names"
    command.add_argument("--spool", type=Path, metavar="DIR", help=text)


def _explain(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("address", metavar="ADDRESS", help="a recipient")
    text = "the envelope sender; default: <>"
    explain.add_argument("--from", dest="sender", default="", metavar="SENDER", help=text)
    explain.add_argument("--json", action="store_true", help="one JSON object")
    _spool(explain)
    explain.set_defaults(module="relay.cli.explain")


def _queue(queue: argparse.ArgumentParser, config: argparse.ArgumentParser) -> None:
    actions = queue.add_subparsers(metavar="ACTION", required=True)
    for action, text in (
        ("list", "what waits, and what was said to it last or is in its way"),
        ("show", "everything about a message: why it waits, what was said, the next try"),
        ("lanes", "the next hops: how much waits for each, and what is in its way"),
        ("status", "counts by state, and the routes that are at fault"),
        ("retry", "try messages now"),
        ("hold", "keep messages and do not try them"),
        ("release", "let messages go that are on hold"),
        ("drop", "remove messages for ever, without a bounce"),
    ):
        command = _said(actions, action, text, config)
        _spool(command)
        if action in ("list", "retry", "hold", "release", "drop"):
            _filters(command)
        if action in ("retry", "hold", "release", "drop"):
            command.add_argument("--all", dest="everything", action="store_true", help="every message")
            command.add_argument("--dry-run", action="store_true", help="only count")
        if action == "drop":
            command.add_argument("--yes", action="store_true", help="do not ask")
        if action == "show":
            command.add_argument("ids", nargs="+", metavar="ID", help="queue ids, as queue list shows them")
            command.add_argument("--content", action="store_true", help="the message itself, nothing else")
        command.add_argument("--json", action="store_true", help="one JSON object per line")
        command.set_defaults(module="relay.cli.operate", action=action)
    text = "bring back what a damaged database that was moved aside still proves"
    _salvage(_said(actions, "salvage", text, config))


def _salvage(salvage: argparse.ArgumentParser) -> None:
    _spool(salvage)
    salvage.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="damaged-TIME, of the spool")
    salvage.add_argument("--all", dest="everything", action="store_true", help="all that were moved aside")
    salvage.add_argument("--dry-run", action="store_true", help="only say what could be brought back")
    salvage.add_argument("--json", action="store_true", help="one JSON object per line")
    salvage.set_defaults(module="relay.cli.salvage")


def _user(user: argparse.ArgumentParser, config: argparse.ArgumentParser) -> None:
    actions = user.add_subparsers(metavar="ACTION", required=True)
    for action, text in (
        ("add", "add a user, with a password from the terminal or from standard input"),
        ("remove", "remove a user"),
        ("list", "who may log in, and as whom they may send"),
        ("check", "check the file, or the password of a user"),
    ):
        command = _said(actions, action, text, config)
        command.add_argument("--file", type=Path, metavar="PATH", help="instead of users_file")
        if action == "add":
            command.add_argument(
                "--sender", dest="senders", action="append", metavar="PATTERN",
                help="may send as this only: a@b, @b or <>; may be repeated; default: as anybody",
            )  # fmt: skip
            command.add_argument("--replace", action="store_true", help="a new password for an old user")
        if action == "list":
            command.add_argument("--json", action="store_true", help="one JSON object per line")
        else:
            nargs, text = ("?", "default: the whole file") if action == "check" else (None, "the user")
            command.add_argument("name", metavar="NAME", nargs=nargs, help=text)
        command.set_defaults(module="relay.cli.user", action=action)


def _filters(command: argparse.ArgumentParser) -> None:
    command.add_argument("ids", nargs="*", metavar="ID", help="queue ids, as queue list shows them")
    command.add_argument("--from", dest="sender", metavar="ADDRESS", help="sender: a@b, @b, or <>")
    command.add_argument("--to", dest="recipient", metavar="ADDRESS", help="recipient: a@b or @b")
    command.add_argument("--lane", help="mx:DOMAIN or route:NAME, as queue lanes shows it")
    command.add_argument(
        "--state", dest="states", action="append", default=[], help="these alone; may be repeated",
        choices=("incoming", "active", "deferred", "hold", "quarantine"),
    )  # fmt: skip
    command.add_argument("--older-than", type=_duration, metavar="AGE", help="such as 30m, 2h, 1d")
    command.add_argument("--younger-than", type=_duration, metavar="AGE", help="the same")


def _duration(text: str) -> float:
    from relay.config.units import parse_duration  # only where one is given

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
