"""A fixed short story, told one step after the other: every kind of write that the relay knows.

It looks at the queue through copies of its files, so that looking makes no system call in the relay. Between
two steps the relay comes to rest, and lanes that could move at once move one after the other: two things at
a time may share a commit, or not, and then the calls have other numbers. Ended is raised when the relay ends
before the story does.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from fakes.relay_process import RelayProcess
from faults.campaign import Campaign
from faults.client import Client, Gone
from faults.leases import Lying, lying
from faults.letter import LARGE, Letter, id_of, letter

from mailqueue import State

PATIENT = {
    "retry": {"schedule": ["1h"], "factor": 1, "cap": "1h", "jitter": 0, "after_crash": "1h"},
    "log": {"level": "warning"},  # a line is written when there is time for it: not a step of the story
}
POLL = 0.005  # s
PATIENCE = 30.0  # s for one step
STEPS = ("small", "large", "later", "bounce", "hold", "drop", "mixed")
DROPPED = frozenset({"dropped"})  # letters that the operator removes


class Ended(Exception):
    """The relay is dead."""


class Story:
    def __init__(self, campaign: Campaign) -> None:
        """campaign: of a load without clients, with PATIENT in its configuration, running."""
        self.campaign = campaign
        self.random = Random(1)
        self.queue_ids: dict[str, str] = {}

    def tell(self, steps: Sequence[str] = STEPS) -> None:
        """All of it, or some."""
        try:
            with contextlib.closing(Client(self.campaign.relay.smtp_port)) as self.client:
                for step in steps:
                    getattr(self, step)()
        except Gone as error:
            raise Ended from error
        finally:
            self.campaign.next_hop.delays.clear()

    def small(self) -> None:
        self.send("small", "ok")
        self.until_gone("small")

    def large(self) -> None:
        self.send("large", "ok", size=LARGE * 3)
        self.until_gone("large")

    def later(self) -> None:
        self.send("later", "later", size=LARGE)
        self.until("later", State.DEFERRED)
        self.operate("retry", "later")
        self.until_gone("later")

    def bounce(self) -> None:
        self.send("bounced", "never")
        self.until_gone("bounced")

    def hold(self) -> None:
        self.send("held", "later")
        self.until("held", State.DEFERRED)
        self.operate("hold", "held")
        self.until("held", State.HELD)
        self.operate("release", "held")
        self.until_gone("held")

    def drop(self) -> None:
        self.send("dropped", "later", "later", size=LARGE)
        self.until("dropped", State.DEFERRED)
        self.campaign.load.removing(self.queue_ids["dropped"])
        self.operate("drop", "dropped")
        self.until_gone("dropped")

    def mixed(self) -> None:
        """Three fates in three lanes, and a refusal after the dot of what lies in a file."""
        never, later = "never.2.mixed@c.example", "later.1.mixed@b.example"
        hop = self.campaign.next_hop
        hop.delays.update({never: PATIENCE, later: PATIENCE})
        self.send("mixed", "ok", "later", "never", "ok", "later", "never")
        self.until_left("mixed", never, later)
        hop.go_on(never)
        self.until_left("mixed", later)
        hop.go_on(later)
        self.until("mixed", State.DEFERRED)
        self.operate("retry", "mixed")
        self.until_gone("mixed")
        self.send("refused", "refused", size=LARGE)
        self.until_gone("refused")

    # --- what the steps are made of

    def send(self, name: str, *words: str, size: int = 500) -> Letter:
        made = letter(name, self.random, words, size)
        answer = self.campaign.load.send(self.client, made)
        self.queue_ids[name] = answer.queue_id
        assert answer.code == 250, answer
        return made

    def operate(self, action: str, name: str) -> None:
        if self.campaign.operate({"command": action, "ids": [self.queue_ids[name]]}) is None:
            raise Ended

    def until_gone(self, name: str) -> None:
        """Nothing of this letter is left, its bounce included."""
        self.wait(lambda there: not any(_about(entry, name) for entry in there))

    def until_left(self, name: str, *first: str) -> None:
        """The entries of this letter, its bounce included, are those with these first recipients."""

        def there(entries: list[Lying]) -> bool:
            return {entry.recipients[0] for entry in entries if _about(entry, name)} == set(first)

        self.wait(there)

    def until(self, name: str, state: State) -> None:
        """Every entry of this letter that is left is in this state, and there is one."""

        def there(entries: list[Lying]) -> bool:
            states = {entry.state for entry in entries if _about(entry, name)}
            return states == {state}

        self.wait(there)

    def wait(self, condition: Callable[[list[Lying]], bool]) -> None:
        """Until it is so, and the relay rests."""
        seen: list[str] | None = None
        moved: list[str] | None = None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not self.campaign.relay.running:
                raise Ended
            before, moved = moved, movements(self.campaign.relay.pid)
            if moved is not None and moved == before and moved != seen:
                seen = moved  # nothing on the disk changes until it moves again
                with contextlib.suppress(sqlite3.DatabaseError):  # it was being written all the same
                    if condition(lying(self.campaign.relay.spool)):
                        return
            time.sleep(POLL)
        raise AssertionError(
            f"the story is stuck: {lying(self.campaign.relay.spool)}\n{self.campaign.relay.log()}"
        )


def rest(relay: RelayProcess) -> None:
    """Returns when nothing moves in it."""
    moved: list[str] | None = None

    def still() -> bool:
        nonlocal moved
        before, moved = moved, movements(relay.pid)
        return moved is not None and moved == before

    relay.wait_until(still, "at rest")


def movements(pid: int) -> list[str] | None:
    """How often each thread of a process was put on and off a processor; None while one of them is at work. A
    thread that waits for the interpreter sleeps, too: but not for long, and it moves in between."""
    found = []
    try:
        for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
            status = (task / "status").read_text()
            if "\nState:\tS" not in status:
                return None
            found.append(status[status.index("\nvoluntary_ctxt_switches") :])
    except (FileNotFoundError, ProcessLookupError):  # it has ended just now
        return None
    return found


def _about(entry: Lying, name: str) -> bool:
    return id_of(entry.recipients[0]) == name
