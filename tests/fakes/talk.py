"""A transaction driven by a list of replies: no sockets, no time."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes.jobs import job

from relay.delivery.capabilities import Capabilities
from relay.delivery.job import Job
from relay.delivery.states import Step
from relay.delivery.transaction import Transaction
from relay.delivery.verdict import Trouble
from relay.outcome import Deferred, Delivered, Failed

HOST = "mx.example.net[192.0.2.1]:25"
ALL = Capabilities(pipelining=True, eightbit=True, smtputf8=True, dsn=True, size=0)
STEPWISE = Capabilities()
CONTENT = b"<content>"
EOF, RESET, TIMEOUT = Trouble.EOF, Trouble.RESET, Trouble.TIMEOUT
OK, GO = "250 ok", "354 go"
NO_MAIL, NO_DATA = "503 no MAIL", "503 no RCPT"

Line = str | Trouble


@dataclass
class Talk:
    """A transaction that was driven by a list of replies."""

    transaction: Transaction
    job: Job
    said: list[bytes] = field(default_factory=list)
    done: bool = False

    @property
    def outcomes(self) -> str:
        """One letter a recipient: delivered, Deferred, Failed, Ambiguous, - for none."""
        return "".join(self.letter(index) for index in range(len(self.job.entry.recipients)))

    def letter(self, index: int) -> str:
        match self.job.results.get(index):
            case Delivered():
                return "d"
            case Failed():
                return "F"
            case Deferred(ambiguous=True):
                return "A"
            case Deferred():
                return "D"
        return "-"

    @property
    def elsewhere(self) -> list[int]:
        return list(self.transaction.verdict.elsewhere)

    def stage(self, index: int = 0) -> str:
        outcome = self.job.results[index]
        assert isinstance(outcome, Deferred | Failed)
        return outcome.stage

    def hear(self, *lines: Line) -> None:
        """The peer says this; the transaction must not end before the last line."""
        for line in lines:
            assert not self.done, f"ended before {line}"
            if self.transaction.state == "content" and line is not EOF:
                self.transaction.content_sent()
            self.take(finish(self.transaction, line))

    def take(self, step: Step) -> None:
        if step is Step.SEND:
            self.said.append(self.transaction.output)
        elif step is Step.CONTENT:
            self.said.append(CONTENT)
        self.done = step is Step.DONE


def talk(
    lines: list[Line],
    work: Job | None = None,
    offered: Capabilities = ALL,
    *,
    reused: bool = False,
    reset: bool = False,
) -> Talk:
    """Drive one transaction through these lines."""
    work = work or job()
    transaction = Transaction(work, offered, HOST, reused=reused, reset=reset)
    result = Talk(transaction, work)
    result.take(transaction.begin())
    result.hear(*lines)
    return result


def people(number: int) -> list[str]:
    return [f"r{index}@example.org" for index in range(number)]


def finish(transaction: Transaction, end: Line) -> Step:
    if isinstance(end, Trouble):
        return transaction.lost(end, "the line is dead")
    if end == "nonsense":
        return transaction.nonsense("220 hello?")
    return transaction.reply(int(end[:3]), end[4:].encode())
