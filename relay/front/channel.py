"""The transport side of a session: admission, buffer, replies, pausing, time-outs, the end of the connection.

What the bytes mean is the business of session.py. Replies collect in `replies` and leave in one write at the
end of each run. Reading is paused while the client does not read its replies, while the spool is behind with
the content, and while too much waits behind a commit.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP

from relay.front import states
from relay.front.admission import Admission
from relay.front.deadline import Deadline
from relay.front.intake import Intake
from relay.front.replies import SHUTTING_DOWN, wire
from relay.front.service import Service
from relay.reply import Reply

BUFFER_LIMIT = 64 * 1024  # octets that wait, while BUSY or for their turn, before reading is paused
COMMAND_TIME, DATA_TIME = 300.0, 180.0  # seconds without a byte (RFC 5321 4.5.3.2)
CLOSING_TIME, SESSION_TIME = 30.0, 86400.0  # seconds for the last reply to leave; for a session in all
RATE_WINDOW, RATE_OCTETS = 300.0, 30_000  # in DATA: at least so many octets in so many seconds
# Where places are short (admission.py):
PRESSED_TIME = 10.0  # seconds without an octet, and for the rate in DATA
PRESSED_AGE = 60.0  # seconds without a message that was accepted

TIMED_OUT = Reply(421, "4.4.2", "time-out, closing")
GIVING_WAY = Reply(421, "4.7.0", "too many sessions, this one has to give way")
CLOSING = Reply(421, *SHUTTING_DOWN)


C = TypeVar("C", bound="Channel")


def ready(kind: type[C], hostname: str, loop: asyncio.AbstractEventLoop) -> type[C]:
    """`kind` with the attributes that aiosmtpd's constructor makes (with dir() and getmembers: 0.3 ms), once
    for all sessions of a loop."""
    made = vars(SMTP(None, hostname=hostname, loop=loop))
    kept = {
        name: staticmethod(value) if callable(value) else value
        for name, value in made.items()
        if "stream" not in name and name != "_closed" and not hasattr(kind, name)  # those are slots
    }
    return type(kind.__name__, (kind,), {"__slots__": (), **kept})


class Channel(SMTP):
    """The base of a session: arrival.py says how it begins, session.py what `advance` takes from the
    buffer."""

    __slots__ = (
        "_ends", "_octets", "_window", "address", "admission", "at", "below", "buffer", "choked", "client",
        "deadline", "eof", "held", "intake", "loop", "replies", "secure", "service", "state", "stopping",
        "task", "transport", "trusted", "unfinished", "useful",
    )  # fmt: skip
    deadline: Deadline  # made when the session is counted, as are these (loop time)
    useful: float  # when it began, or had a message accepted
    _ends: float

    def __init__(  # not super().__init__: see ready
        self, service: Service, admission: Admission[Channel], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.service = service
        self.admission = admission
        self.transport: asyncio.Transport | None = None
        self.address = ""  # of the client, without port
        self.client = ""  # as logged; "" until it was let in
        self.secure = ""  # the TLS version of the session, "" in clear
        self.trusted = False
        self.state: int = states.COMMAND
        self.buffer = b""
        self.at = 0  # what lies before is done with
        self.replies: list[bytes] = []
        self.intake: Intake | None = None
        self.task: asyncio.Task[Any] | None = None
        self.below: asyncio.Transport | None = None  # what carries TLS
        self.eof = False
        self.stopping = False
        self.choked = False  # the client does not read
        self.held = False  # we do not read
        self.unfinished = False  # what is in the buffer waits for the next turn
        self._octets = 0
        self._window = (0.0, 0)  # of DATA: when it began, octets then

    def __del__(self) -> None:
        """The base's looks for a future that we do not have."""

    # --- the transport's calls (connection_made: arrival.py)

    def data_received(self, data: bytes) -> None:
        if self.state == states.CLOSING:
            return
        self.buffer = self.buffer + data if self.buffer else data
        self._octets += len(data)
        self.deadline.put(DATA_TIME if self.state == states.DATA else COMMAND_TIME)
        self.advance()

    def eof_received(self) -> bool:
        """The client will send no more. What it sent is still answered: True keeps our side open for that.
        TLS has no half-closed connections: it ends at once."""
        self.eof = True
        self.advance()
        return (self.state == states.BUSY or self.choked or self.unfinished) and not self.secure

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.state = states.CLOSING
        if self.admission.release(self):
            self.deadline.cancel()
            if self.client:
                self.service.events.session_closed(self.service.listener, self.client)
        if self.task is not None:
            self.task.cancel()
        self.drop_message()

    def pause_writing(self) -> None:
        self.choked = True
        self.deadline.put(COMMAND_TIME)
        self._regulate()

    def resume_writing(self) -> None:
        self.choked = False
        self.advance()

    # --- for the session

    def advance(self) -> None:
        raise NotImplementedError

    def drop_message(self) -> None:
        """A message under way is given up; nothing of it stays."""
        intake, self.intake = self.intake, None
        if intake is not None:
            intake.content.on_drain = None
            intake.content.discard()

    def begin_message(self, intake: Intake) -> None:
        """Time, rate and pausing now follow this message."""
        self.intake = intake
        self.state = states.DATA
        intake.content.on_drain = self._drained
        self._window = (self.loop.time(), self._octets)

    def say_last(self, reply: Reply) -> None:
        """Say it and close; input is ignored from now on."""
        self.replies.append(wire(reply))
        self.leave()

    def leave(self) -> None:
        """Close after the replies that were collected."""
        self.state = states.CLOSING
        self.drop_message()

    def stop(self) -> None:
        """The relay shuts down. A message past its final dot is finished first; a command that waits is not:
        a login may stand in a long line, or have failed and wait for that."""
        self.stopping = True
        if self.state in (states.PROXY, states.HANDSHAKE):
            self.abort()
        elif self.state == states.CLOSING:
            self.flush()
        elif self.state != states.BUSY or self.task is not None:
            self._end(CLOSING)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def flush(self) -> None:
        """The end of a run: the replies leave in one write, a session that is over is closed."""
        transport = self.transport
        if transport is None:
            self.replies.clear()
            return
        if self.replies:
            transport.write(b"".join(self.replies))
            self.replies.clear()
        if self.state == states.CLOSING:
            self.buffer = b""
            self.deadline.put(CLOSING_TIME)
            self._close(transport)
        elif self.state != states.COMMAND or self.held or self.choked or self.unfinished:
            self._regulate()

    def _close(self, transport: asyncio.Transport) -> None:
        """TLS waits some seconds for the client to say goodbye as well; not when the relay shuts down."""
        if not transport.is_closing():  # a second close() spoils asyncio's transport of TLS
            transport.close()
        if self.stopping and self.below is not None and not transport.get_write_buffer_size():
            self.below.close()

    # --- pausing and time

    def _regulate(self) -> None:
        """Read or do not read."""
        waits = self.state == states.BUSY or self.unfinished
        hold = self.choked or (waits and len(self.buffer) > BUFFER_LIMIT)
        if self.intake is not None:
            hold = hold or self.intake.content.is_behind
        if hold is self.held or self.transport is None or self.transport.is_closing():
            return
        self.held = hold
        if hold:
            self.transport.pause_reading()
        else:
            self._window = (self.loop.time(), self._octets)
            self.deadline.put(DATA_TIME if self.state == states.DATA else COMMAND_TIME)
            self.transport.resume_reading()

    def _drained(self) -> None:
        if self.held:
            self._regulate()

    def _tick(self) -> None:
        """Every some seconds: has the client's time run out? Time that we take ourselves does not count."""
        if self.admission.crowded and self.give_way(False):
            return
        if self.state == states.CLOSING or self.choked:
            if self.deadline.passed:
                self.abort()
        elif self.held or (self.state == states.BUSY and self.task is None):
            self.deadline.put(COMMAND_TIME)
        elif self.deadline.passed or self._is_too_slow() or self.loop.time() > self._ends:
            self.time_out()

    def _is_too_slow(self) -> bool:
        began, octets = self._window
        if self.state != states.DATA or self.loop.time() - began < RATE_WINDOW:
            return False
        self._window = (self.loop.time(), self._octets)
        return self._octets - octets < RATE_OCTETS

    def time_out(self, reply: Reply = TIMED_OUT) -> None:
        self._end(reply)

    def _end(self, reply: Reply) -> None:
        """Said at once; a command that waits is given up."""
        if self.task is not None:
            self.task.cancel()
        self.say_last(reply)
        self.flush()

    # --- where places are short

    def give_way(self, at_once: bool) -> bool:
        """Ends, and says True, unless something is under way that is worth a place. at_once: however young
        the session is, if it is not handing over a message."""
        if not (self._is_idle() or (at_once and self.state not in (states.DATA, states.BUSY))):
            return False
        self.service.events.session_gave_way(self.service.listener, self.client)
        self.stopping = True  # nor is anybody's goodbye waited for
        if self.choked:
            self.abort()
        else:
            self.time_out(GIVING_WAY)
        return True

    def _is_idle(self) -> bool:
        """Nothing to speak of was done for some time; time that we take ourselves does not count."""
        now, state = self.loop.time(), self.state
        if state == states.BUSY:
            return self.task is not None and now - self.useful >= PRESSED_AGE
        if self.held and not self.choked:
            return False
        if now - self.deadline.since >= PRESSED_TIME:
            return True
        if state != states.DATA:
            return now - self.useful >= PRESSED_AGE
        began, octets = self._window
        wanted = RATE_OCTETS / RATE_WINDOW * (now - began)
        return now - began >= PRESSED_TIME and self._octets - octets < wanted
