"""The next hop of the campaigns: answers by what stands in the address, and writes down on disk what came.

It lives in a thread of the campaign's process, so it outlives every relay. What a letter's addresses ask for:
letter.py. Each answer's state is kept here: "later" means once, whatever happens to the relay meanwhile.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from fakes.sink import Received, RecordingSink
from faults import history
from faults.history import Arrival
from faults.letter import read_arrival, word_of

SLOW = 0.1  # of the transactions are answered after a while, so that kills meet them
SLOWEST = 0.2  # s


class NextHop(RecordingSink):
    """arrivals and notices: files in `directory`, one line a transaction."""

    def __init__(self, directory: Path, random: Random, slow: float = SLOW) -> None:
        super().__init__(keep=False)
        self.arrivals = directory / "arrivals"
        self.notices = directory / "notices"
        self.dots = 0  # final dots seen
        self.count = 0  # transactions that were answered 2xx
        self._random = random
        self.slow = slow
        self._put_off: set[str] = set()

    def turn_away(self) -> None:
        """From now on it takes nothing. What is under way is finished: no dot is left without a reply."""
        for stage in ("CONNECT", "MAIL"):
            self.answers[stage] = "421 4.3.2 not now"

    def welcome(self) -> None:
        """As before turn_away()."""
        for stage in ("CONNECT", "MAIL"):
            self.answers.pop(stage, None)

    def answer(self, key: str, default: str) -> str:
        """Told answers come first; then what the address asks for."""
        if key in self.answers:
            return super().answer(key, default)
        word = word_of(key)
        if word in ("later", "DOT late") and key not in self._put_off:
            self._put_off.add(key)
            return "451 4.7.1 later"
        if word == "never":
            return "550 5.1.1 nobody of that name"
        return "554 5.6.0 not wanted" if word == "DOT refused" else default

    def delay(self, key: str) -> float:
        if key.startswith("DOT") and self._random.random() < self.slow:
            return self._random.random() * SLOWEST
        return super().delay(key)

    def dot(self, message: Received) -> str:
        self.dots += 1
        return f"DOT {message.recipients[0]}"

    def record(self, message: Received, accepted: bool) -> None:
        self.commands.clear()
        if accepted:
            came = read_arrival(message.content, message.sender, message.recipients, time.time())
            history.append(self.arrivals if isinstance(came, Arrival) else self.notices, came)
            self.count += 1
