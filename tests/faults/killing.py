"""Campaign 2's work: the phases of the story, their points, and one process killed at one point."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fakes.relay_process import RelayProcess
from faults.campaign import Campaign
from faults.checker import Findings
from faults.client import Client
from faults.history import Fault
from faults.leases import in_flight
from faults.letter import LARGE, letter
from faults.points import Point, is_write, of_files, of_threads
from faults.story import Ended, Story
from faults.strace import WRITING, parse, strace
from faults.traced import attached, tasks, telling

from mailqueue import State

NAMES = (
    "", "lock", "format", "format.new", "clean", "clean.new", "suspect", "queue.db", "queue.db-wal",
    "queue.db-wal.new", "queue.db-shm", "queue.db-journal", "ballast", "content", "control",
)  # fmt: skip
PATIENCE = 30.0  # s for the relay to die or to end


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
        half = letter("half", Random(1), size=4 * LARGE)
        client = Client(campaign.relay.smtp_port)
        content = campaign.relay.spool / "content"
        files = len(list(content.iterdir()))
        client.begin(half)
        campaign.relay.wait_until(lambda: len(list(content.iterdir())) > files, "writing half a content")
        campaign.relay.kill9()
        client.close()
        campaign.note(Fault("kill -9", time.time(), in_flight(campaign.relay.spool)))


def warm_up(campaign: Campaign) -> None:
    """A large letter needs a thread to be read by."""
    story = Story(campaign)
    with contextlib.closing(Client(campaign.relay.smtp_port)) as story.client:
        story.send("warm", "ok", size=LARGE)
        story.until_gone("warm")


def stop(campaign: Campaign) -> None:
    campaign.relay.terminate()


@contextlib.contextmanager
def world(phase: Phase, directory: Path) -> Iterator[Campaign]:
    """The phase's relay; running, unless its start is what the phase is about."""
    if phase.prepared is not None:
        shutil.copytree(phase.prepared, directory, ignore=shutil.ignore_patterns("control"))
    campaign = telling(directory)
    with campaign.next_hop:
        try:
            if not phase.started:
                campaign.restart("begin")
                phase.warm(campaign)
            yield campaign
        finally:
            campaign.relay.__exit__()


def command(log: Path, calls: tuple[str, ...], *more: str, files: Sequence[Path] = ()) -> list[str]:
    """strace, of calls on these files only where any are named."""
    paths = [argument for path in files for argument in ("-P", str(path))]
    return strace(log, calls, *more, *paths)


def enumerate_points(phase: Phase, directory: Path) -> None:
    """A run that is not disturbed tells which points there are."""
    log = directory.with_suffix(".trace")
    with world(phase, directory) as campaign:
        relay = campaign.relay
        phase.spool = relay.spool
        if phase.started:
            files = [relay.spool / name if name else relay.spool for name in NAMES]
            files += sorted(relay.spool.glob("content/*"))
            relay.start(command(log, WRITING, "-f", files=files))
            main = owner(relay)
            end_traced(relay)
            calls = parse(log.read_text().splitlines())
            phase.points, phase.hidden = of_files(phase.name, calls, main)
            return
        threads = tasks(relay.pid)
        with attached(relay, command(log, WRITING, "-f"), relay.pid):
            phase.act(campaign)
        calls = parse(log.read_text().splitlines())
        phase.points = of_threads(phase.name, calls, threads)
        phase.hidden = sum(call.thread not in threads and is_write(call) for call in calls)


def owner(relay: RelayProcess) -> int:
    """The process id of a relay that runs under strace: the process we started is strace."""
    return int((relay.spool / "lock").read_text())


def end_traced(relay: RelayProcess) -> None:
    """kill -9 for it."""
    os.kill(owner(relay), signal.SIGKILL)
    relay.wait()


@dataclass(slots=True)
class Death:
    """hit: the relay died at the point."""

    point: Point
    hit: bool
    findings: Findings


def kill_at(phase: Phase, point: Point, directory: Path) -> Death:
    """Begins the phase, kills the relay at the point, starts it again, drains, checks."""
    with world(phase, directory) as campaign:
        relay = campaign.relay
        inject = f"inject={point.name}:signal=SIGKILL:when={point.n}"
        log = directory / "trace"
        tracer = command(log, (point.name,), "-e", inject)
        if phase.started:
            file = relay.spool / Path(point.file).relative_to(phase.spool)
            threads = ["-f"] if point.thread < 0 else []
            tracer = command(log, (point.name,), "-e", inject, *threads, files=[file])
            hit = _killed_at_start(relay, tracer)
        else:
            hit = _killed_while(phase, campaign, tracer, tasks(relay.pid)[point.thread])
        campaign.restart(f"kill -9 at {point}")
        return Death(point, hit, campaign.finish(30))


def _killed_at_start(relay: RelayProcess, tracer: list[str]) -> bool:
    relay.spawn(tracer)
    try:
        relay.wait_until(relay.ready, "ready")
    except AssertionError:
        if relay.running:
            raise
        return relay.wait() == -signal.SIGKILL
    end_traced(relay)
    return False


def _killed_while(phase: Phase, campaign: Campaign, tracer: list[str], thread: int) -> bool:
    relay = campaign.relay
    with attached(relay, tracer, thread), contextlib.suppress(Ended, AssertionError):
        phase.act(campaign)
    if relay.running:
        relay.kill9()
        return False
    return relay.wait() == -signal.SIGKILL
