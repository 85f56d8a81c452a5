"""What has happened so far: the relay's own events, and the fates of the letters that follow from them.

`Tale` is the Events object of the demonstration's relay. It logs and counts as always, and tells each event
to the audience in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.demo.cast import BOUNCE, CAST, SENDER, Letter
from relay.envelope import Envelope
from relay.observe.events import Events
from relay.observe.log import Log
from relay.observe.metrics import Metrics
from relay.outcome import Deferred, Delivered, Failed, Outcome

Told = Callable[[str, str], None]  # who (a recipient or a queue id), what
FINAL = ("delivered", "bounced")


@dataclass
class Fate:
    """Of one letter. state: "", "accepted", "deferred", "delivered" or "bounced"."""

    letter: Letter
    name: str = ""  # its queue id
    state: str = ""
    tries: int = 0
    reply: str = ""  # what the next hop said last

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def expected(self) -> bool:
        return (self.state, self.tries) == (self.letter.fate, self.letter.tries)


class Tale(Events):
    """fates: by recipient; told is called for every event that the audience should see."""

    def __init__(self, log: Log, metrics: Metrics, told: Told) -> None:
        super().__init__(log, metrics)
        self.fates = {letter.recipient: Fate(letter) for letter in (*CAST, BOUNCE)}
        self.told = told

    def received(self, name: str, envelope: Envelope, size: int, recipients: int) -> None:
        """Accepted and durable."""
        super().received(name, envelope, size, recipients)
        recipient = envelope.message_id.strip("<>").removeprefix("demo.")
        fate = self.fates.get(recipient)
        if fate is None:
            self.told(name, f"accepted from <{envelope.sender}>, on disk")
        elif not fate.name:
            fate.name, fate.state = name, fate.state or "accepted"
            self.told(recipient, f"accepted and on disk: queued as {name}")

    def attempted(
        self,
        name: str,
        route: str,
        sender: str,
        results: Sequence[tuple[str, Outcome]],
        delay: float,
        stages: tuple[float, float, float, float],
    ) -> None:
        """One attempt ended."""
        super().attempted(name, route, sender, results, delay, stages)
        for recipient, outcome in results:
            fate = self.fates.get(recipient)
            if fate is not None and not fate.final:
                fate.name = fate.name or name
                fate.tries += 1
                fate.state, fate.reply = state(outcome), outcome.reply.line
            self.told(recipient, sentence(outcome))

    def dsn(self, action: str, name: str, original: str) -> None:
        """A report was made."""
        super().dsn(action, name, original)
        home = self.fates[SENDER]
        home.state = home.state or "accepted"
        self.told(SENDER, f"bounce of {original} on disk, in the same commit")


def state(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case Deferred():
            return "deferred"
        case Failed():
            return "bounced"


def sentence(outcome: Outcome) -> str:
    """An outcome in words, with the reply: short, for it shall fit a line of 80. The log names the host."""
    match outcome:
        case Delivered(reply):
            return f"delivered: {reply.line}"
        case Deferred(reply):
            return f"kept for another try: {reply.line}"
        case Failed(reply):
            return f"given up: {reply.line}"
