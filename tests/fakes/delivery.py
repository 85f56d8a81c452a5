"""The neighbours of the scheduler, in memory: a queue that keeps its promises, a next hop that follows a
script.

`FakeHop` is where connections go: it may be down, be full, or answer per recipient;
it counts what was opened and remembers what arrived. Nothing here waits for real time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mailqueue.entry import Entry, Message, Recipient
from relay.config.model import Config
from relay.delivery.attempt import Conclusion
from relay.delivery.failure import OpenFailed
from relay.delivery.job import Job, Verdict
from relay.delivery.verdict import ROUTE_FAULTS
from relay.envelope import Envelope
from relay.observe.events import Events
from relay.outcome import Deferred, Delivered, Failed, Outcome
from relay.reply import Reply
from relay.routing.hosts import Host, Hosts, Resolution
from relay.routing.table import LanePolicy
from relay.routing.target import Target

HOP = "hop.example"


class FakeLink:
    """A connection to a FakeHop. It ends jobs when the hop says so (`FakeHop.answer`)."""

    def __init__(self, hop: FakeHop, target: Target) -> None:
        self.hop = hop
        self.target = target
        self.host = f"{target.name}[{target.address}]:{target.port}"
        self.setup = 0.25
        self.messages = 0
        self.on_lost: Callable[[Any], None] | None = None
        self.on_ended: Callable[[Any], None] | None = None
        self.closed = False
        self.ended = False
        self.past_dot = False
        self.job: Job | None = None
        self._done: Callable[[Any, Job, Verdict], None] | None = None

    @property
    def idle(self) -> bool:
        return self.job is None and not self.closed

    def start(self, job: Job, done: Callable[[Any, Job, Verdict], None]) -> None:
        assert self.idle, "start on a connection that is not idle"
        self.job, self._done = job, done
        self.hop.started(self)

    def finish(self, verdict: Verdict | None = None, closed: bool = False) -> None:
        """The job ends as the hop's script says, or with `verdict` as it is."""
        job, done = self.job, self._done
        assert job is not None and done is not None
        self.job, self._done = None, None
        if closed:
            self._end()
        self.messages += 1
        verdict = verdict or self.hop.judge(self, job)
        done(self, job, verdict)

    def close(self) -> None:
        assert self.job is None, "close of a busy connection"
        if self.hop.slow_quit and not self.closed:
            self.closed = True
            self.hop.quitting.append(self)
        else:
            self._end()

    def abort(self) -> None:
        if self.job is not None:
            stage = "dot" if self.past_dot else "data"
            cut = Deferred(Reply(0, "4.4.2", "connection cut"), self.host, stage, ambiguous=self.past_dot)
            self.job.results.update(dict.fromkeys(self.job.todo, cut))
            self._end()
            self.finish(Verdict(), closed=True)
        else:
            self._end()

    def lose(self) -> None:
        """The peer ends an idle connection."""
        self._end()
        if self.on_lost is not None:
            self.on_lost(self)

    def gone(self) -> None:
        """The peer has answered QUIT and closed."""
        self.hop.quitting.remove(self)
        self._end()

    def _end(self) -> None:
        self.closed = True
        if not self.ended:
            self.ended = True
            self.hop.links.remove(self)
            if self.on_ended is not None:
                self.on_ended(self)

    async def wait_closed(self) -> None:
        while not self.ended:  # noqa: ASYNC110  the fake of a socket: it has no event
            await asyncio.sleep(0)


@dataclass
class FakeHop:
    """down: openings fail so; dead: names of hosts that refuse; faulty: host -> how its openings fail; stuck:
    lanes whose openings never end; hangs_up: hosts that end the session at once;
    full: more connections than this are refused; slow_quit: what was closed ends only by `gone`; answers:
    recipient address -> its outcomes, one per attempt, the last for ever; hold: jobs end only by `answer`."""

    down: OpenFailed | None = None
    full: int = 1000
    hold: bool = False
    answers: dict[str, list[Outcome]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    faulty: dict[str, OpenFailed] = field(default_factory=dict)
    hangs_up: set[str] = field(default_factory=set)
    opens: int = 0
    most: int = 0
    slow_quit: bool = False
    quitting: list[FakeLink] = field(default_factory=list)
    links: list[FakeLink] = field(default_factory=list)
    busy: list[FakeLink] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    sent: list[tuple[str, list[str]]] = field(default_factory=list)
    by_host: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event | None = None

    async def open(self, target: Target, policy: LanePolicy) -> FakeLink:
        self.opens += 1
        self.by_host[target.name] += 1
        if self.gate is not None:
            await self.gate.wait()
        if policy.lane in self.stuck:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        if target.name in self.faulty:
            raise self.faulty[target.name]
        if target.name in self.dead:
            raise refused(target.name)
        if len(self.links) >= self.full:
            raise refused(target.name)
        link = FakeLink(self, target)
        self.links.append(link)
        self.most = max(self.most, len(self.links))
        if target.name in self.hangs_up:
            link.lose()
        return link

    def started(self, link: FakeLink) -> None:
        assert link.job is not None
        self.order.append(link.job.entry.id)
        self.busy.append(link)
        if not self.hold:
            asyncio.get_running_loop().call_soon(self._answer, link)

    def answer(self, n: int = 1) -> None:
        """End the n oldest jobs."""
        for link in self.busy[:n]:
            self._answer(link)

    def judge(self, link: FakeLink, job: Job) -> Verdict:
        elsewhere, lane = [], ""
        self.sent.append((job.entry.lane, [job.entry.recipients[index].address for index in job.todo]))
        for index in job.todo:
            address = job.entry.recipients[index].address
            outcome = self._outcome(address, link)
            job.results[index] = outcome
            if isinstance(outcome, Delivered):
                self.arrived.append(address)
            if isinstance(outcome, Deferred) and outcome.stage in ("mail", "rcpt"):
                elsewhere.append(index)
                lane = "auth" if outcome.reply.code in ROUTE_FAULTS else lane
        return Verdict(elsewhere=elsewhere, lane=lane, envelope=0.1, final=0.1)

    def _outcome(self, address: str, link: FakeLink) -> Outcome:
        script = self.answers.get(f"{address} {link.target.name}") or self.answers.get(address)
        if script is None:
            return Delivered(Reply(250, "2.0.0", "ok"), link.host)
        return script.pop(0) if len(script) > 1 else script[0]

    def _answer(self, link: FakeLink) -> None:
        if link in self.busy:
            self.busy.remove(link)
        if link.job is not None:
            link.finish()


class FakeTable:
    """Every domain its own lane, "mx:DOMAIN", unless `routes` says otherwise; gone: lanes without a
    meaning."""

    def __init__(self, concurrency: int = 20, per_connection: int = 100) -> None:
        self.concurrency = concurrency
        self.per_connection = per_connection
        self.routes: dict[str, str] = {}
        self.rates: dict[str, tuple[int, float]] = {}  # by route, or by lane of "mx"
        self.gone: set[str] = set()
        self.route = "mx"  # another name: all lanes belong to one route by MX
        self.connections: int | None = None
        self.capture: Path | None = None

    def lane(self, sender: str, recipient: str) -> str:
        domain = recipient.rpartition("@")[2].lower()
        return self.routes.get(domain, f"mx:{domain}")

    def policy(self, lane: str) -> LanePolicy | None:
        if lane in self.gone:
            return None
        domain = lane.partition(":")[2]
        rate = self.rates.get(lane if self.route == "mx" else self.route)
        kind: Literal["mx", "capture"] = "capture" if self.capture else "mx"
        return LanePolicy(
            lane, self.route, kind, domain, (), self.capture, 25, "none", self.concurrency,
            self.per_connection,
            rate=rate, connections=self.connections,
        )  # fmt: skip


class FakeResolver:
    """Every lane goes to `names`, in this order, unless `resolution` is set."""

    def __init__(self, *names: str, port: int = 25) -> None:
        hosts = [
            Host(name, (f"192.0.2.{place + 1}",), port, preference=place)
            for place, name in enumerate(names or (HOP,))
        ]
        self.resolution: Resolution = Hosts(tuple(hosts))
        self.asked = 0

    async def hosts(self, policy: LanePolicy) -> Resolution:
        self.asked += 1
        return self.resolution


class FakeReporter:
    """Every failed, delayed or relayed round is reported in one line. wants: whether anybody is told at
    all."""

    limit = 100

    def __init__(self) -> None:
        self.wants = True
        self.error: Exception | None = None
        self.written: list[tuple[str, list[str], bytes]] = []

    def renew(self, config: Config, table: object) -> None:
        self.renewed = config

    def wanted(self, entry: Entry, envelope: Envelope, conclusion: Conclusion) -> bool:
        return self.wants

    def write(
        self,
        entry: Entry,
        envelope: Envelope,
        conclusion: Conclusion,
        content: bytes,
        complete: bool,
        now: float,
    ) -> list[Message]:
        if self.error is not None:
            raise self.error
        kinds = {"failed": conclusion.failed, "delayed": conclusion.delayed, "relayed": conclusion.relayed}
        messages = []
        for kind, results in kinds.items():
            if results:
                self.written.append((kind, [recipient.address for recipient, _ in results], content))
                messages.append(Message("", {"mx:client.example": [Recipient(entry.sender)]}, kind.encode()))
        return messages


class FakeEvents(Events):
    """told: (event, arguments) in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, tuple[Any, ...]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in _EVENTS:
            return lambda *arguments: self.told.append((name, arguments))
        return super().__getattribute__(name)

    def count(self, name: str) -> int:
        return sum(event == name for event, _ in self.told)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for event, arguments in self.told if event == name]


_EVENTS = frozenset(
    name
    for kind in Events.__mro__[:-1]
    for name, value in vars(kind).items()
    if callable(value) and name[0] != "_"
)


def refused(host: str = HOP) -> OpenFailed:
    return OpenFailed("connect", Reply(0, "4.4.1", "connection refused"), "connect", f"{host}[192.0.2.1]:25")


def said(code: int, text: str, stage: str = "rcpt", host: str = HOP) -> Outcome:
    """What a peer's reply makes of a recipient."""
    if code < 400:
        return Delivered(Reply(code, "2.0.0", text), host)
    if code in ROUTE_FAULTS:
        return Deferred(Reply(code, "4.7.8", text), host, stage)
    reply = Reply(code, f"{code // 100}.0.0", text)
    return Failed(reply, host, stage) if code >= 500 else Deferred(reply, host, stage)
