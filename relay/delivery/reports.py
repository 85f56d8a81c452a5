"""Reports as messages for the queue: relay.bounce says who is told what and writes it, this addresses it.

A report goes the way of any mail from the null sender: its lane is that of its own recipient. What nobody can
be told (null sender, no postmaster) is told to the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

from mailqueue.entry import Entry, Message, Recipient
from relay.bounce.compose import compose
from relay.bounce.policy import RETURN_CAP, Plan, plan, plan_delayed, report_envelope
from relay.config.model import Config
from relay.delivery.attempt import Conclusion
from relay.delivery.neighbours import Table
from relay.envelope import Envelope
from relay.observe.events import Events


class Reports:
    """The Reporter of the relay. limit: octets of content a report can use."""

    limit = RETURN_CAP

    def __init__(self, config: Config, table: Table, events: Events) -> None:
        self._events = events
        self.renew(config, table)

    def renew(self, config: Config, table: Table) -> None:
        """Another configuration holds from now on."""
        self._table = table
        self._hostname = config.hostname
        self._postmaster = config.postmaster
        self._give_up = config.retry.give_up

    def wanted(self, entry: Entry, envelope: Envelope, conclusion: Conclusion) -> bool:
        """True when `write` has something to do."""
        return bool(self._plans(entry, envelope, conclusion))

    def write(
        self,
        entry: Entry,
        envelope: Envelope,
        conclusion: Conclusion,
        content: bytes,
        complete: bool,
        now: float,
    ) -> list[Message]:
        """The reports of this round. content: its first octets, all of them when `complete`; now: epoch
        seconds."""
        messages = []
        for report in self._plans(entry, envelope, conclusion):
            if report.to:
                messages.append(self._message(report, entry, envelope, content, complete, now))
            else:
                self._events.dsn("dropped", "", entry.name)
        return messages

    def _plans(self, entry: Entry, envelope: Envelope, conclusion: Conclusion) -> Sequence[Plan]:
        policy = self._table.policy(entry.lane)
        final = policy is not None and policy.kind == "capture"
        plans = plan(envelope, conclusion.results, self._postmaster, final=final)
        delayed = plan_delayed(envelope, conclusion.delayed)
        return [*plans, delayed] if delayed is not None else plans

    def _message(
        self, report: Plan, entry: Entry, envelope: Envelope, content: bytes, complete: bool, now: float
    ) -> Message:
        token = token_hex(8)
        message_id = f"{entry.name}.{token}@{self._hostname}"
        written = compose(
            report.kind,
            hostname=self._hostname,
            now=now,
            queue_id=entry.name,
            envelope=envelope,
            accepted=entry.accepted,
            results=report.results,
            content=content,
            complete=complete,
            boundary=f"report_{token}",
            message_id=message_id,
            to=report.to,
            give_up=entry.accepted + self._give_up,
        )
        self._events.dsn(report.kind, message_id, entry.name)
        meta = report_envelope(report.kind, report.to, written, message_id).pack()
        return Message("", {self._table.lane("", report.to): [Recipient(report.to)]}, written, meta)
