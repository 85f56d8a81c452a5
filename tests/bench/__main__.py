"""Measures the relay, and Postfix beside it where it is installed, in pairs of runs whose order alternates.

    make bench                                              # everything, about half an hour
    make bench ARGS="--scenarios smalld,small --pairs 3"
    make bench ARGS="--pairs 5 --json figures.json --judge"
    make bench ARGS="--show figures.json --brief"           # the table of a record
    make bench ARGS="--quick"                               # whether it works, not how fast it is

Prints a table in Markdown. Postfix needs root (it changes its users), and so does strace on some machines.
README.md beside this file says what each figure is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from bench import machine
from bench.bed import FULL, QUICK, Effort
from bench.programs import lookup, missing
from bench.relays import Kind, Ours, TheirPostfix
from bench.report import POSTFIX, RELAY, Measured, Pair, brief, doubts, missed, record, table
from bench.scenarios import SCENARIOS, Scenario

TROUBLE = (AssertionError, OSError, ValueError, subprocess.SubprocessError)
LAST = 5  # lines of a server's log
SPOOLS = "/var/tmp"  # on a disk, where /tmp may be memory


def main() -> int:
    args = arguments()
    if args.show:
        return shown(read(args.show), args)
    tempfile.tempdir = str(args.directory)
    signal.signal(signal.SIGTERM, interrupt)
    servers, alone = peers()
    results = Results(args, dict(unavailable(args.scenarios)), dict.fromkeys(args.scenarios, ()))
    say(*alone, *results.notes())
    ended = 0
    try:
        for name in args.scenarios:
            if name not in results.left_out:
                results.measure(name, servers)
    except KeyboardInterrupt:
        say("interrupted: the table has what was complete")
        ended = 130
    return shown(results.measured(), args) or ended or (os.EX_SOFTWARE if results.broken else 0)


def shown(measured: Sequence[Measured], args: argparse.Namespace) -> int:
    """The table and what is to be said of it; 1 when the judge finds something."""
    print("\n".join((brief if args.brief else table)(measured)))
    say(*doubts(measured))
    failures = list(missed(measured)) if args.judge else []
    say(*failures)
    return int(bool(failures))


class Results:
    """What has been measured; written to the record's file after each pair."""

    def __init__(
        self, args: argparse.Namespace, left_out: dict[str, str], pairs: dict[str, tuple[Pair, ...]]
    ) -> None:
        self.left_out = left_out  # name -> why
        self._args, self._pairs = args, pairs
        self.broken = False
        self._facts = machine.facts(args.directory) | {"quick": args.quick}

    def notes(self) -> Iterator[str]:
        if self._facts["file_system"] in machine.IN_MEMORY:
            yield f"{self._args.directory} is in memory: syncs cost nothing there (see --directory)"
        for name, why in self.left_out.items():
            yield f"{name}: not measured: {why}"

    def measure(self, name: str, servers: Mapping[str, Kind]) -> None:
        """All pairs of a scenario. One that breaks off is told, and the others are still measured."""
        effort = QUICK if self._args.quick else FULL
        try:
            for number in range(self._args.pairs):
                self._pairs[name] += (one_pair(name, SCENARIOS[name], number, servers, effort),)
                self._write()
        except TROUBLE as trouble:
            self.broken = True
            first, *rest = str(trouble).splitlines() or [repr(trouble)]
            self.left_out[name] = f"broken off: {first}"
            say(f"{name}: {self.left_out[name]}", *rest[-LAST:])
            self._write()

    def measured(self) -> list[Measured]:
        return [made(name, pairs) for name, pairs in self._pairs.items() if pairs]

    def _write(self) -> None:
        if self._args.json:
            document = record(self.measured(), self._facts, self.left_out)
            self._args.json.write_text(json.dumps(document, indent=1) + "\n")


def made(name: str, pairs: Iterable[Pair]) -> Measured:
    scenario = SCENARIOS[name]
    return Measured(name, scenario.title, scenario.figures, tuple(pairs))


def read(file: Path) -> list[Measured]:
    """From a record; scenarios that are no more are left out."""
    scenarios = json.loads(file.read_text())["scenarios"]
    return [made(name, scenario["pairs"]) for name, scenario in scenarios.items() if name in SCENARIOS]


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
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: the table of a record")
    parser.add_argument("--brief", action="store_true", help="medians alone")
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
