"""Campaign 2's work: the phases of the story, their points, and one process killed at one point."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults.campaign import Campaign
from faults.checker import Findings, check
from faults.client import Client
from faults.history import Fault
from faults.leases import in_flight
from faults.letter import LARGE, letter
from faults.points import Point, is_write, labels, of_files, of_threads
from faults.story import Ended, Story
from faults.strace import WRITING, parse, strace
from faults.traced import attached, tasks, telling

from mailqueue import State

NAMES = (
    "", "lock", "format", "format.new", "clean", "clean.new", "suspect", "queue.db", "queue.db-wal",
    "queue.db-wal.new", "queue.db-shm", "queue.db-journal", "ballast", "content", "control",
)  # fmt: skip
HALF = 3 * 2**20  # octets of a letter, so that some are on the disk before the last has come
AFTERWARDS = 0.5  # s for the last calls of a phase


@dataclass(slots=True)
class Phase:
    """prepared: the directory it begins with, None: an empty one. started: strace is there from the first
    instruction on, else it is put on the running relay. act: what the relay is made to do then."""

    name: str
    prepared: Path | None
    started: bool
    act: Callable[[Campaign], None]
    warm: Callable[[Campaign], None] = lambda campaign: None  # before: so that every thread is there
    spool: Path = Path()  # where the points were found
    points: list[Point] = field(default_factory=list)
    hidden: int = 0
    rare: int = 0  # calls that were not in every run


def phases(directory: Path) -> list[Phase]:
    """In the order of a relay's life."""
    crashed = directory / "crashed"
    leave_everything(crashed)
    return [
        Phase("first start", None, True, lambda campaign: None),
        Phase("story", None, False, lambda campaign: Story(campaign).tell(), warm_up),
        Phase("stop", crashed, False, stop),
        Phase("start after a crash", crashed, True, lambda campaign: None),
    ]


def leave_everything(directory: Path) -> None:
    """A spool that was killed with something of each kind in it: deferred, held, in flight, half a letter."""
    with telling(directory) as campaign:
        story = Story(campaign)
        with contextlib.closing(Client(campaign.relay.smtp_port)) as story.client:
            story.small()
            story.send("waits", "later", "later", size=LARGE)
            story.until("waits", State.DEFERRED)
            story.send("held", "later")
            story.until("held", State.DEFERRED)
            story.operate("hold", "held")
            story.until("held", State.HELD)
            for name, size in (("flies", 500), ("soars", LARGE)):
                campaign.next_hop.delays[f"DOT ok.0.{name}@a.example"] = 600.0
                story.send(name, "ok", size=size)
                story.until(name, State.ACTIVE)
        content = campaign.relay.spool / "content"
        files = len(list(content.iterdir()))
        with contextlib.closing(Client(campaign.relay.smtp_port)) as client:
            client.begin(letter("half", Random(1), size=HALF))
            campaign.relay.wait_until(lambda: len(list(content.iterdir())) > files, "writing half a content")
            campaign.relay.kill9()
        campaign.note(Fault("kill -9", time.time(), in_flight(campaign.relay.spool)))


def warm_up(campaign: Campaign) -> None:
    """A large letter needs a thread to be read by."""
    story = Story(campaign)
    with contextlib.closing(Client(campaign.relay.smtp_port)) as story.client:
        story.send("warm", "ok", size=LARGE)
        story.until_gone("warm")


def stop(campaign: Campaign) -> None:
    campaign.relay.send(signal.SIGTERM)
    if campaign.relay.wait() != 0:
        raise Ended


@contextlib.contextmanager
def world(phase: Phase, directory: Path) -> Iterator[Campaign]:
    """The phase's relay, running; or waiting for SIGCONT, when its start is what the phase is about."""
    if phase.prepared is not None:
        shutil.copytree(phase.prepared, directory, ignore=shutil.ignore_patterns("control"))
    campaign = telling(directory)
    with campaign.next_hop:
        try:
            if phase.started:
                campaign.relay.spawn(stopped=True)
            else:
                campaign.restart("begin")
                phase.warm(campaign)
            yield campaign
        finally:
            campaign.relay.__exit__()


def command(log: Path, calls: tuple[str, ...], *more: str, files: Sequence[Path] = ()) -> list[str]:
    """strace, of calls on these files only where any are named."""
    paths = [argument for path in files for argument in ("-P", str(path))]
    return strace(log, calls, *more, *paths)


def enumerate_points(phase: Phase, directory: Path, runs: int) -> None:
    """Runs that are not disturbed tell which points there are: those of the first, without what is not in
    every run (a commit may write a page more, a client's octets may come in two pieces)."""
    phase.points, phase.hidden = found(phase, directory)
    for _ in range(runs - 1 if not phase.started else 0):
        shutil.rmtree(directory)
        there = {named(point) for point in found(phase, directory)[0]}
        kept = [point for point in phase.points if named(point) in there]
        phase.rare += len(phase.points) - len(kept)
        phase.points = kept


def named(point: Point) -> tuple[int, str, str]:
    return point.thread, point.name, point.what


def found(phase: Phase, directory: Path) -> tuple[list[Point], int]:
    """The points of one run, and how many calls cannot be met."""
    log = directory.with_suffix(".trace")
    with world(phase, directory) as campaign:
        relay = campaign.relay
        phase.spool = relay.spool
        threads = tasks(relay.pid)
        files = [relay.spool / name if name else relay.spool for name in NAMES]
        files += sorted(relay.spool.glob("content/*"))
        tracer = command(log, WRITING, "-f", files=files if phase.started else ())
        with attached(relay, tracer, relay.pid):
            begin(phase, campaign)
    calls = parse(log.read_text().splitlines())
    if phase.started:
        return of_files(phase.name, calls, threads[0])
    hidden = sum(call.thread not in threads and is_write(call) for call in calls)
    return of_threads(phase.name, calls, threads), hidden


def begin(phase: Phase, campaign: Campaign) -> None:
    """The relay is traced: off it goes. Ended, when it dies."""
    if not phase.started:
        phase.act(campaign)
        return
    relay = campaign.relay
    relay.send(signal.SIGCONT)
    try:
        relay.wait_until(relay.ready, "ready")
    except AssertionError as error:
        if relay.running:
            raise
        raise Ended from error


@dataclass(slots=True)
class Death:
    """hit: the relay died at the point. n: its number in this run, as far as that is known."""

    point: Point
    hit: bool
    findings: Findings
    n: int


def kill_at(phase: Phase, point: Point, directory: Path, n: int) -> Death:
    """Begins the phase, kills the relay at the nth call of this kind, starts it again, drains, checks."""
    with world(phase, directory) as campaign:
        relay = campaign.relay
        more = ["-e", f"inject={point.name}:signal=SIGKILL:when={n}"]
        files = []
        if phase.started:
            files = [relay.spool / Path(point.file).relative_to(phase.spool)]
            more += ["-f"] if point.thread < 0 else []
        thread = tasks(relay.pid)[max(0, point.thread)]
        tracer = command(directory / "trace", (point.name,), *more, files=files)
        with attached(relay, tracer, thread):
            ended = _ends(phase, campaign)
        if not ended:
            findings = check(campaign.history())
            relay.kill9()
            return Death(point, False, findings, max(1, n - 1))
        killed = relay.wait() == -signal.SIGKILL
        campaign.restart(f"kill -9 at {point}")
        findings = campaign.finish(30)
    if phase.started:
        return Death(point, killed, findings, n)
    seen = labels(parse((directory / "trace").read_text().splitlines()))
    return Death(point, killed and seen[-1] == point.what, findings, place(seen, point.what, n + 1))


def place(seen: Sequence[str], label: str, otherwise: int) -> int:
    """The number of this one, from 1."""
    return seen.index(label) + 1 if label in seen else otherwise


def _ends(phase: Phase, campaign: Campaign) -> bool:
    """Goes through the phase; whether the relay dies in it, or in the calls that come after it."""
    try:
        begin(phase, campaign)
        campaign.relay.wait_until(lambda: False, "dead", AFTERWARDS)
    except Ended:
        return True
    except AssertionError:
        return not campaign.relay.running
    return False
