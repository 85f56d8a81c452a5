"""Measures the relay, and Postfix beside it where it is installed, in pairs of runs whose order alternates.

    make bench                                              # everything, about half an hour
    make bench ARGS="--scenarios smalld,small --pairs 3"
    make bench ARGS="--pairs 5 --json figures.json --judge"
    make bench ARGS="--quick"                               # whether it works, not how fast it is

Prints a table in Markdown. Postfix (it changes its users) and strace need root. README.md beside this file
says what each figure is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from bench import machine
from bench.bed import FULL, QUICK, Effort
from bench.programs import lookup, missing
from bench.relays import Kind, Ours, TheirPostfix
from bench.report import POSTFIX, RELAY, Measured, Pair, doubts, missed, record, table
from bench.scenarios import SCENARIOS, Scenario

TROUBLE = (AssertionError, OSError, ValueError, subprocess.SubprocessError)
LAST = 5  # lines of a server's log
SPOOLS = "/var/tmp"  # on a disk, where /tmp may be memory


def main() -> int:
    args = arguments()
    tempfile.tempdir = str(args.directory)
    signal.signal(signal.SIGTERM, interrupt)
    left_out = dict(unavailable(args.scenarios))
    servers, notes = peers()
    notes += [f"{name}: not measured: {why}" for name, why in left_out.items()]
    facts = machine.facts(args.directory)
    if facts["file_system"] in machine.IN_MEMORY:
        notes.append(f"{args.directory} is in memory: syncs cost nothing there (see --directory)")
    say(*notes)
    done: list[Measured] = []
    ended = 0
    try:
        for measured in measure([name for name in args.scenarios if name not in left_out], servers, args):
            done.append(measured)
            if args.json:
                args.json.write_text(json.dumps(record(done, facts, left_out), indent=1) + "\n")
    except KeyboardInterrupt:
        say("interrupted: the table has what was complete")
        ended = 130
    except TROUBLE as trouble:
        say("broken off:", *str(trouble).splitlines()[:1], *str(trouble).splitlines()[1:][-LAST:])
        ended = os.EX_SOFTWARE
    print("\n".join(table(done)))
    say(*doubts(done))
    failures = list(missed(done)) if args.judge else []
    say(*failures)
    return ended or int(bool(failures))


def measure(names: list[str], servers: Mapping[str, Kind], args: argparse.Namespace) -> Iterator[Measured]:
    """Scenario by scenario, with all its pairs."""
    effort = QUICK if args.quick else FULL
    for name in names:
        scenario = SCENARIOS[name]
        pairs: list[Pair] = []
        for number in range(args.pairs):
            pairs.append(one_pair(name, scenario, number, servers, effort))
        yield Measured(name, scenario.title, scenario.figures, tuple(pairs))


def one_pair(name: str, scenario: Scenario, number: int, servers: Mapping[str, Kind], effort: Effort) -> Pair:
    """The relay first, or Postfix first; told as they end."""
    found: dict[str, Mapping[str, float]] = {}
    order = [server for server in servers if server == RELAY or not scenario.alone]
    for server in order if number % 2 == 0 else reversed(order):
        found[server] = scenario.run(servers[server], effort)
        figures = ", ".join(f"{key} {value:.4g}" for key, value in found[server].items())
        say(f"{name} {number + 1} {server}: {figures}")
    return found


def peers() -> tuple[dict[str, Kind], list[str]]:
    """The servers that can be measured here, and why not the others."""
    servers: dict[str, Kind] = {RELAY: Ours}
    if lookup("postfix") is None:
        return servers, [f"the relay alone: {missing('postfix')}"]
    if os.geteuid():
        return servers, ["the relay alone: Postfix needs root"]
    return servers | {POSTFIX: TheirPostfix}, []


def unavailable(names: list[str]) -> Iterator[tuple[str, str]]:
    """Scenarios that cannot be measured here, and why."""
    for name in names:
        for program in SCENARIOS[name].needs:
            if lookup(program) is None:
                yield name, missing(program)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", type=listed, default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--pairs", type=int, help="runs of each; default 5, with --quick 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a record for programs")
    parser.add_argument("--judge", action="store_true", help="exit with 1 where less was found than wanted")
    parser.add_argument("--quick", action="store_true", help="small sizes: figures mean nothing")
    parser.add_argument("--directory", type=Path, default=Path(SPOOLS), help=f"for spools; default {SPOOLS}")
    args = parser.parse_args()
    args.pairs = args.pairs or (1 if args.quick else 5)
    return args


def listed(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SCENARIOS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
