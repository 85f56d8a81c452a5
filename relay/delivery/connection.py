"""One greeted SMTP connection that runs transactions: the edge between octets and transaction.py.

Callback style, for speed: no task and no future per message, one write for the commands of a batch, one for
small content with its final dot. Promises: `done` is called exactly once for each start(); a phase lasts no
longer than its time-out; what the peer says unasked ends the connection; memory per connection is bounded
by one block of content and the bounds of reply_reader.py. It decides nothing about recipients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from relay.delivery.capabilities import Capabilities
from relay.delivery.content_stream import ContentStream
from relay.delivery.job import Job, Verdict
from relay.delivery.reply_reader import NotAReply, ReplyReader
from relay.delivery.states import DONE, SEND, WAIT, Step
from relay.delivery.timeouts import Timeouts
from relay.delivery.transaction import Transaction
from relay.delivery.verdict import Trouble
from relay.wire import END

Done = Callable[["Connection", Job, Verdict], None]
Lost = Callable[["Connection"], None]
_LINGER = 0.5  # seconds a peer that has answered QUIT gets to close


class Connection(asyncio.Protocol):
    """A greeted session. One job at a time; `done` is called on the loop, exactly once for each start().

    host: "name[address]:port", as outcomes and logs have it. secure: TLS version or "". setup: seconds from
    connect to ready. messages: transactions begun on it, counted when
    a job ends. on_lost: called once when the connection ends while
    idle without close() or abort() having been called (peer's EOF, RST, 421 or any unasked octet); not called
    while a job is under way, `done` says it then. on_ended: called once when the socket is closed.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        capabilities: Capabilities,
        host: str,
        timeouts: Timeouts,
        *,
        secure: str = "",
        setup: float = 0.0,
    ) -> None:
        """The caller gives the transport this object as its protocol."""
        self.host, self.secure, self.setup = host, secure, setup
        self.capabilities = capabilities
        self.messages = 0
        self.on_lost: Lost | None = None
        self.on_ended: Lost | None = None
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._phases = timeouts.phases()
        self._tick_length = min(self._phases.values())
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._envelope_deadline = 0.0  # monotonic
        self._reader = ReplyReader()
        self._transaction: Transaction | None = None
        self._job: Job | None = None
        self._done: Done | None = None
        self._stream: ContentStream | None = None
        self._mark = 0.0  # when the present stage began, monotonic
        self._open = False  # the peer has a MAIL that nothing has ended
        self._paused = False
        self._closed = self._leaving = False
        self._gone = asyncio.Event()

    @property
    def idle(self) -> bool:
        """True: start() may be called (also from within `done`)."""
        return self._transaction is None and not self._closed

    @property
    def closed(self) -> bool:
        """True: it is of no use any more: closed, lost, or saying QUIT."""
        return self._closed

    @property
    def ended(self) -> bool:
        """True: the socket is closed, so the peer no longer counts this connection."""
        return self._gone.is_set()

    @property
    def past_dot(self) -> bool:
        """True: the final dot is out and its reply is awaited: a cut now would be ambiguous."""
        return self._transaction is not None and self._transaction.state == "dot"

    def start(self, job: Job, done: Done) -> None:
        """Send job.todo. RuntimeError when not idle. When `done` runs the connection is idle or closed."""
        if not self.idle:
            raise RuntimeError(f"{self.host}: start() on a connection that is {self._condition()}")
        transaction = Transaction(
            job, self.capabilities, self.host, reused=self.messages > 0, reset=self._open
        )
        self._transaction, self._job, self._done = transaction, job, done
        self._mark = time.monotonic()
        if transaction.begin() is SEND:
            self._begin_batch()
            self._say()
        else:
            self._loop.call_soon(self._end)  # not at once: a lane may start thousands that end so

    def close(self) -> None:
        """Say QUIT, wait a little for the answer in the background, close. Idempotent.

        RuntimeError while a job is under way.
        """
        if self._closed:
            return
        if not self.idle:
            raise RuntimeError(f"{self.host}: close() on a connection that is {self._condition()}")
        self._closed = True
        self._stop_timer()
        self._transport.write(b"QUIT\r\n")
        self._timer = self._loop.call_later(self._timeouts.quit, self._transport.abort)

    def abort(self) -> None:
        """Cut at once. A job under way ends with `done`, as if the peer had cut. Idempotent."""
        if self._transaction is not None:
            self._finish(Trouble.EOF, "the connection was cut by us")
        self._cut()

    def _leave(self) -> None:
        """Once: what it says later gives it no more time."""
        if not self._leaving:
            self._leaving = True
            self._stop_timer()
            self._timer = self._loop.call_later(_LINGER, self._transport.close)

    async def wait_closed(self) -> None:
        """Returns when the socket is closed (after close(), abort() or a loss)."""
        await self._gone.wait()

    # --- called by the transport

    def data_received(self, data: bytes) -> None:
        if self._transaction is not None:
            self._reader.feed(data)
            self._read_replies(self._transaction)
        elif self._closed:  # the answer to QUIT; the peer closes now (RFC 5321 4.1.1.10) and counts one less
            self._leave()
        else:
            self._lose()  # 421, or a peer that talks unasked

    def eof_received(self) -> None:
        self._lost(Trouble.EOF, "the host closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        if error is None:
            self._lost(Trouble.EOF, "the host closed the connection")
        else:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._lost(Trouble.RESET, f"the connection was lost ({reason or type(error).__name__})")
        self._closed = True
        self._stop_timer()
        self._gone.set()
        if self.on_ended is not None:
            self.on_ended(self)

    def pause_writing(self) -> None:
        self._paused = True
        if self._stream is not None:
            self._stream.paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._stream is not None:
            self._stream.resume()

    # --- replies

    def _read_replies(self, transaction: Transaction) -> None:
        try:
            while (reply := self._reader.next()) is not None:
                step = transaction.reply(*reply)
                if step is not WAIT and self._take(transaction, step):
                    return
        except NotAReply as error:
            transaction.nonsense(str(error))
            self._end()
        else:
            self._await()

    def _take(self, transaction: Transaction, step: Step) -> bool:
        """Do what the transaction says; True when it has ended."""
        if step is not DONE and self._reader.leftover:
            step = transaction.nonsense("the host spoke before it was asked")
        if step is DONE:
            self._end()
            return True
        if step is SEND:
            if transaction.state in ("mail", "reset"):
                self._begin_batch()
            self._say()
        else:
            self._send_content(transaction)
        return False

    def _say(self) -> None:
        assert self._transaction is not None
        self._transport.write(self._transaction.output)
        self._await()

    # --- content

    def _send_content(self, transaction: Transaction) -> None:
        assert self._job is not None
        loaded = self._job.loaded
        transaction.verdict.envelope = self._lap()
        if loaded.data is not None:
            self._transport.write(loaded.data + END)
            transaction.content_sent()
        elif loaded.path is not None:
            self._stream = ContentStream(self._transport, self._await, self._content_ends)
            self._stream.paused = self._paused
            self._stream.start(loaded.path, loaded.size, loaded.check)
        else:
            self._loop.call_soon(self._content_ends, "content was not loaded", True)

    def _content_ends(self, fault: str, corrupt: bool) -> None:
        transaction = self._transaction
        if transaction is None:
            return
        self._stream = None
        if fault:
            _ = transaction.corrupt(fault) if corrupt else transaction.unreadable(fault)
            self._end()
            return
        self._transport.write(END)
        transaction.content_sent()
        transaction.verdict.data = self._lap()
        self._await()

    # --- time: one timer, re-armed when it fires, never per command

    def _begin_batch(self) -> None:
        self._envelope_deadline = time.monotonic() + self._timeouts.envelope

    def _await(self) -> None:
        """The peer has the time of this phase, from now."""
        assert self._transaction is not None
        state = self._transaction.state
        self._deadline = time.monotonic() + self._phases[state]
        if state not in ("content", "dot"):
            self._deadline = min(self._deadline, self._envelope_deadline)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_length, self._tick)

    def _tick(self) -> None:
        """A deadline set since the timer was armed is not before now: no phase is shorter than a tick."""
        self._timer = None
        if self._transaction is None:
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(max(0.001, min(left, self._tick_length)), self._tick)
        else:
            self._finish(Trouble.TIMEOUT, "the host took too long")

    def _lap(self) -> float:
        """Seconds since the present stage began; the next begins."""
        begun, self._mark = self._mark, time.monotonic()
        return self._mark - begun

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- endings

    def _lost(self, trouble: Trouble, text: str) -> None:
        if self._transaction is not None:
            self._finish(trouble, text)
        elif not self._closed:
            self._lose()

    def _lose(self) -> None:
        self._cut()
        if self.on_lost is not None:
            self.on_lost(self)

    def _finish(self, trouble: Trouble, text: str) -> None:
        assert self._transaction is not None
        self._transaction.lost(trouble, f"{text} before {self._transaction.awaited}")
        self._end()

    def _cut(self) -> None:
        self._closed = True
        self._transport.abort()

    def _end(self) -> None:
        """The transaction has ended: be idle or closed, then tell the lane."""
        transaction, job, done = self._transaction, self._job, self._done
        if transaction is None or job is None or done is None:
            return
        self._transaction = self._job = self._done = None
        if self._stream is not None:
            self._stream.stop()
            self._stream = None
        self.messages += transaction.begun
        self._open = transaction.open
        if transaction.dotted:
            transaction.verdict.final = self._lap()
        if transaction.broken or self._reader.leftover:
            self._cut()
        done(self, job, transaction.verdict)

    def _condition(self) -> str:
        return "closed" if self._closed else "busy" if self._transaction else "idle"
