"""The story under strace: what the relay did in which order, judged by order.py."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fakes.relay_process import RelayProcess
from faults.campaign import Campaign
from faults.checker import Findings
from faults.commits import Base, commits
from faults.order import Order
from faults.story import DROPPED, PATIENT, STEPS, Story
from faults.strace import READING, WRITING, parse, strace

REPLY = 0.3  # s after a dot, in which somebody who records what was not said yet is seen to do so


def tasks(pid: int) -> list[int]:
    """The threads of a process, the first first."""
    return sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())


@contextmanager
def attached(relay: RelayProcess, command: Sequence[str], *threads: int) -> Iterator[None]:
    """strace on these threads of the relay (with -f and one thread: on all of them), while it lasts."""
    pids = [argument for thread in threads for argument in ("-p", str(thread))]
    with subprocess.Popen([*command, *pids], stderr=subprocess.DEVNULL) as tracer:
        try:
            wanted = threads if "-f" not in command else tasks(relay.pid)
            relay.wait_until(lambda: all(_is_traced(relay.pid, thread) for thread in wanted), "traced")
            yield
        finally:
            tracer.terminate()


def _is_traced(pid: int, thread: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{thread}/status").read_text()


def telling(directory: Path, module: str = "faults.single_thread") -> Campaign:
    """A campaign that nobody disturbs but the story."""
    return Campaign(directory, 1, config=PATIENT, module=module, slow=0.0, clients=0, operator=False)


def story_in_order(
    directory: Path,
    module: str = "faults.single_thread",
    prefix: Sequence[str] = (),
    steps: Sequence[str] = STEPS,
) -> tuple[Order, Findings]:
    """Tells the story, or some of it, to a relay under strace. prefix: what to run the relay under."""
    log = directory / "trace"
    with telling(directory, module) as campaign:
        if prefix:
            campaign.relay.kill9()
            campaign.relay.start(prefix)
        base = Base.of(campaign.relay.spool)
        with attached(campaign.relay, strace(log, (*WRITING, *READING), "-f"), campaign.relay.pid):
            campaign.next_hop.delays["DOT ok.0.small@a.example"] = REPLY
            Story(campaign).tell(steps)
        findings = campaign.finish(empty=False)
    with log.open() as lines:
        calls = parse(lines)
    return Order(calls, list(commits(base, calls)), DROPPED), findings
