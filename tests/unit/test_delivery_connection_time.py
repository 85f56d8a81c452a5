"""The time of each phase (RFC 5321 4.5.3.2), with a clock and a transport that do what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fakes.clock import FakeClock
from fakes.connected import fate
from fakes.jobs import job

from relay.delivery.capabilities import Capabilities
from relay.delivery.connection import Connection
from relay.delivery.job import Job, Verdict
from relay.delivery.timeouts import Timeouts

MINUTE = 60.0


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; nothing ever comes back by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes | bytearray | memoryview] = []
        self.cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.cut = True


class Patient:
    """A connection with a job under way; wait() lets time pass and the timer fire as often as it would."""

    def __init__(self, clock: FakeClock, work: Job) -> None:
        self.clock = clock
        self.transport = MemoryTransport()
        offered = Capabilities(pipelining=True)
        self.connection = Connection(self.transport, offered, "mx[192.0.2.1]:25", Timeouts())
        self.verdicts: list[Verdict] = []
        self.work = work
        self.connection.start(work, lambda _, __, verdict: self.verdicts.append(verdict))
        self.timer: asyncio.TimerHandle | None = None
        self.due()

    def hear(self, *replies: str) -> None:
        self.connection.data_received("".join(f"{reply}\r\n" for reply in replies).encode())

    def wait(self, seconds: float) -> None:
        """The timer fires whenever its time has come, by the clock of the test."""
        end = self.clock.steady + seconds
        while not self.verdicts and self.clock.steady < end:
            due = self.due()
            self.clock.steady = min(due, end)
            if due <= end:
                assert self.timer is not None
                self.timer.cancel()
                self.connection._tick()

    def due(self) -> float:
        """When the timer fires: what it was asked for when it was first seen."""
        timer = self.connection._timer
        assert timer is not None
        if timer is not self.timer:
            self.timer = timer
            self._due = self.clock.steady + timer.when() - asyncio.get_running_loop().time()
        return self._due


Start = Callable[..., Patient]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    """A connection on a clock of its own, in a transaction with these recipients."""
    clock = FakeClock()
    monkeypatch.setattr("relay.delivery.connection.time", clock)
    return lambda *recipients: Patient(clock, job(*recipients))


async def test_each_phase_has_its_time(start: Start) -> None:
    """4.5 minutes to MAIL, as much to RCPT, 1.5 to DATA, nine to the dot: all in time."""
    patient = start()
    patient.wait(4.5 * MINUTE)
    patient.hear("250 ok")
    patient.wait(4.5 * MINUTE)
    patient.hear("250 ok")
    patient.wait(1.5 * MINUTE)
    patient.hear("354 go")
    patient.wait(9 * MINUTE)
    assert patient.verdicts == []
    patient.hear("250 ok")
    assert fate(patient.work)[0] == "d"
    assert patient.verdicts[0].envelope == pytest.approx(10.5 * MINUTE)
    assert patient.verdicts[0].final == pytest.approx(9 * MINUTE)
    assert patient.connection.idle and not patient.transport.cut


@pytest.mark.parametrize(
    ("heard", "minutes", "stage"),
    [
        ([], 5, "mail"),
        (["250 ok"], 5, "rcpt"),
        (["250 ok", "250 ok"], 2, "data"),
        (["250 ok", "250 ok", "354 go"], 10, "dot"),
    ],
)
async def test_and_no_more(start: Start, heard: list[str], minutes: float, stage: str) -> None:
    """A second before its end the peer still has a chance, a second after it has none."""
    patient = start()
    for reply in heard:
        patient.wait(1)
        patient.hear(reply)
    patient.wait(minutes * MINUTE - 1)
    assert patient.verdicts == []
    patient.wait(2)
    assert fate(patient.work) == ("A" if stage == "dot" else "D", "4.4.2", stage)
    assert len(patient.verdicts) == 1
    assert patient.transport.cut and patient.connection.closed


async def test_the_envelope_has_a_time_of_its_own(start: Start) -> None:
    """A hundred recipients, each answered just in time, do not add up to hours: 15 minutes in all."""
    patient = start(*(f"r{number}@example.org" for number in range(100)))
    minutes = 0
    while not patient.verdicts and minutes < 100:
        patient.wait(4 * MINUTE)
        minutes += 4
        if not patient.verdicts:
            patient.hear("250 ok")
    assert minutes == 16
    assert patient.clock.steady - 1000 < 15 * MINUTE + 121
    assert fate(patient.work, 50) == ("D", "4.4.2", "rcpt")


async def test_one_timer_for_many_jobs(start: Start) -> None:
    """No timer is made per command or message: the one that runs is kept."""
    patient = start()
    timer = patient.connection._timer
    for _ in range(10):
        patient.hear("250 ok", "250 ok", "354 go")
        patient.hear("250 ok")
        patient.connection.start(job(), lambda *_: None)
        assert patient.connection._timer is timer
    assert timer is not None
    timer.cancel()


async def test_no_timer_runs_when_nothing_is_asked(start: Start) -> None:
    """On an idle connection it fires once and is not armed again."""
    patient = start()
    patient.hear("250 ok", "250 ok", "354 go")
    patient.hear("250 ok")
    timer = patient.connection._timer
    assert timer is not None
    timer.cancel()
    patient.connection._tick()
    assert patient.connection._timer is None
    assert patient.connection.idle
