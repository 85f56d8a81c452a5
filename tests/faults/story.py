"""A fixed short story, told one step after the other: every kind of write that the relay knows.

It looks at the queue through copies of its files, so that looking makes no system call in the relay. Ended is
raised when the relay ends before the story does.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from random import Random

from faults.campaign import Campaign
from faults.client import Client, Gone
from faults.leases import Lying, lying
from faults.letter import LARGE, Letter, id_of, letter

from mailqueue import State

PATIENT = {"retry": {"schedule": ["1h"], "factor": 1, "cap": "1h", "jitter": 0, "after_crash": "1h"}}
POLL = 0.005  # s
PATIENCE = 30.0  # s for one step
DROPPED = frozenset({"dropped"})  # letters that the operator removes


class Ended(Exception):
    """The relay is dead."""


class Story:
    def __init__(self, campaign: Campaign) -> None:
        """campaign: of a load without clients, with PATIENT in its configuration, running."""
        self.campaign = campaign
        self.random = Random(1)
        self.queue_ids: dict[str, str] = {}

    def tell(self) -> None:
        """All of it."""
        try:
            with contextlib.closing(Client(self.campaign.relay.smtp_port)) as self.client:
                for step in (
                    self.small,
                    self.large,
                    self.later,
                    self.bounce,
                    self.hold,
                    self.drop,
                    self.mixed,
                ):
                    step()
        except Gone as error:
            raise Ended from error

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
        self.send("mixed", "ok", "later", "never", "ok", "later", "never")
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

    def until(self, name: str, state: State) -> None:
        """Every entry of this letter that is left is in this state, and there is one."""

        def there(entries: list[Lying]) -> bool:
            states = {entry.state for entry in entries if _about(entry, name)}
            return states == {state}

        self.wait(there)

    def wait(self, condition: Callable[[list[Lying]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if not self.campaign.relay.running:
                raise Ended
            with contextlib.suppress(sqlite3.DatabaseError):  # it was being written
                if condition(lying(self.campaign.relay.spool)):
                    return
            time.sleep(POLL)
        raise AssertionError(
            f"the story is stuck: {lying(self.campaign.relay.spool)}\n{self.campaign.relay.log()}"
        )


def _about(entry: Lying, name: str) -> bool:
    return id_of(entry.recipients[0]) == name
