"""One SMTP session: a table of states over the buffer, run until more input is needed.

A subclass of aiosmtpd's SMTP with a command loop of our own: no task, no StreamReader.

    COMMAND   lines up to CRLF; each is a function of commands.py, answered in order
    DATA      the message goes to the intake; at its end to the queue, and BUSY
    BUSY      the queue commits, or a coroutine handles a command; input waits in the buffer
    CLOSING   input is ignored
    PROXY, HANDSHAKE   see arrival.py

An exception in our code is 451 and one event, never 5xx. The replies of a run leave in one write
(channel.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

from mailqueue.entry import Message, message_name
from mailqueue.errors import NoSpace, QueueClosed, QueueError
from relay.envelope import Envelope
from relay.front import replies, states
from relay.front.admission import Admission
from relay.front.arrival import Arrival
from relay.front.auth import AUTH_LINE_LIMIT, Exchange, go_on
from relay.front.channel import CLOSING, COMMAND_TIME, TIMED_OUT, Channel
from relay.front.commands import COMMANDS, STAGES
from relay.front.intake import Intake
from relay.front.mail import Caller, Mail, caller
from relay.front.replies import Refused, wire
from relay.front.service import Service
from relay.reply import Reply
from relay.users.listing import User

LINE_LIMIT = 2048  # octets of a command line (RFC 5321 4.5.3.1.4 with all extensions: about 1100)
TURN = 50  # commands answered in one go: bounds the replies that wait, and how long others do
ERROR_LIMIT = 20  # errors before 421; a message that is accepted forgives them, and junk
JUNK_LIMIT = 100  # commands that bring no message any further; each one more is an error
BARE_LF_WEIGHT = 7  # errors that a bare LF counts for

_CR = ord("\r")
_JUNK = frozenset(("EHLO", "HELO", "NOOP", "RSET", "VRFY", "EXPN", "HELP"))
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors, closing")
BROKEN = Reply(421, "4.3.0", "local error, closing")


class Session(Arrival):
    """Made by the listener's factory, one per connection."""

    __slots__ = (
        "_advancing", "_errors", "_junk", "_spoiled", "caller", "exchange", "failures", "login", "mail",
        "put_off", "user",
    )  # fmt: skip

    def __init__(
        self, service: Service, admission: Admission[Channel], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(service, admission, loop)
        self.caller: Caller | None = None  # set by EHLO and HELO
        self.mail: Mail | None = None
        self.user: User | None = None  # who logged in
        self.login = ""  # their name
        self.failures = 0  # of AUTH
        self.exchange: Exchange | None = None  # takes the next line, where AUTH waits for one
        self.put_off: Refused | None = None  # the last MAIL was refused for now; so is what comes behind it
        self._errors = self._junk = 0
        self._advancing = False
        self._spoiled = ""  # why the line that is being read will be refused, whatever it says

    # --- the machine

    def advance(self) -> None:
        """Take what is in the buffer, as far as it goes; after TURN steps the other sessions are next."""
        if self._advancing:
            return
        if self.unfinished:
            self._regulate()
            return
        self._advancing = True
        try:
            left = TURN
            while left and _STEPS[self.state](self):
                left -= 1
            if (self.eof or not left) and self.state in (states.COMMAND, states.DATA):
                if not left:
                    self.unfinished = True
                    self.loop.call_soon(self._next_turn)
                elif not self.choked:
                    self.leave()
        except Exception as error:
            self._bug(error)
            self.say_last(BROKEN)
        finally:
            self._advancing = False
        if self.at:
            self.buffer = self.buffer[self.at :]
            self.at = 0
        self.flush()

    def _next_turn(self) -> None:
        self.unfinished = False
        if self.state != states.CLOSING:
            self.advance()

    def _wait(self) -> bool:
        return False

    def _step_command(self) -> bool:
        """One line. False: it was the last, or none is complete, or the client does not read its replies."""
        if self.choked:
            return False
        buffer, start = self.buffer, self.at
        end = buffer.find(b"\n", start)
        if end < 0:
            self._limit_line()
            return False
        self.at = end + 1
        is_clean = end > start and buffer[end - 1] == _CR
        is_short = end - start <= LINE_LIMIT or end - start < self._line_limit(start)
        if is_clean and is_short and not self._spoiled:
            self._execute(buffer[start : end - 1])
        else:
            self._refuse_line(buffer[start : end + 1])
        return end + 1 < len(buffer)

    def _limit_line(self) -> None:
        """An unfinished line over the limit is dropped but for its last octet (it may be a CR)."""
        length = len(self.buffer) - self.at
        if length > LINE_LIMIT and length > self._line_limit(self.at):
            self._spoiled = "line too long"
            self.at = len(self.buffer) - 1

    def _line_limit(self, start: int) -> int:
        """Of a line that begins there."""
        is_auth = self.exchange is not None or self.buffer[start : start + 5].upper() == b"AUTH "
        return AUTH_LINE_LIMIT if is_auth else LINE_LIMIT

    def _refuse_line(self, line: bytes) -> None:
        """Not a line of ours; never executed. A bare LF does not end a command: its rest is refused as
        well. An exchange of AUTH is over."""
        enhanced = "5.5.2" if self.exchange is None else "5.5.6"  # RFC 4954 section 6
        self.exchange = None
        text, self._spoiled = self._spoiled or "line too long", ""
        if not line.endswith(b"\r\n"):
            self._spoiled = "rest of a line with a bare LF"
            self._errors += BARE_LF_WEIGHT - 1
            text, enhanced = "line ends with a bare LF, not with CRLF", "5.5.2"
        self._reply("other", self._failure("other", Refused(500, enhanced, text, "newline")))

    def _execute(self, line: bytes) -> None:
        """A command, without its CRLF."""
        verb, argument = "other", ""
        try:
            if self.exchange is not None:
                verb = "AUTH"
                reply = go_on(self, self.exchange, line)
                return self._reply(verb, reply) if reply else None
            text = str(line, "utf-8")
            if not text.isprintable():
                raise replies.bad_character(line)
            name, _, argument = text.partition(" ")
            name = name.upper()
            command = COMMANDS.get(name)
            if command is None:
                raise replies.unknown_command()
            verb = name
            reply = command(self, argument)
        except UnicodeDecodeError:
            reply = self._failure(verb, replies.bad_character(line))
        except Exception as error:
            reply = self._failure(verb, error, argument)
        if reply:
            self._reply(verb, reply)

    def _reply(self, verb: str, reply: bytes) -> None:
        self.replies.append(reply)
        self.service.events.command(verb, int(reply[:3]))
        if verb in _JUNK:
            self._junk += 1
            self._errors += self._junk > JUNK_LIMIT
        if self._errors >= ERROR_LIMIT and self.state != states.CLOSING:
            self.say_last(TOO_MANY_ERRORS)

    def _failure(self, verb: str, error: Exception, argument: str = "") -> bytes:
        """The reply to what was raised: a refusal, an error of the queue, or a bug of ours. 421 ends the
        session."""
        if isinstance(error, QueueError):
            error = _queue_refusal(error)
        elif not isinstance(error, Refused):
            self._bug(error)
            error = replies.our_fault()
        self._errors += error.reply.code >= 500
        if error.reason == "abuse" and error.reply.code == 554:
            self.leave()
        if verb == "MAIL":
            self.put_off = error if error.reply.code < 500 else None
        stage = STAGES.get(verb)
        if stage is not None:
            self._rejected(stage, error, argument if verb in ("MAIL", "RCPT") else "")
        if error.reply.code == 421:
            self.leave()
        return wire(error.reply)

    def _rejected(self, stage: str, refused: Refused, argument: str) -> None:
        """argument: of MAIL or RCPT, as the client wrote it."""
        sender = self.mail.original or self.mail.sender if self.mail is not None else ""
        recipient = argument[3:].strip() if stage == "rcpt" else ""
        if stage == "mail":
            sender = argument[5:].strip().partition(" ")[0].removeprefix("<").removesuffix(">")
        service = self.service
        service.events.rejected(
            service.listener, self.client, stage, refused.reply, refused.reason, sender, recipient
        )

    # --- for commands.py

    def greet(self, name: str, extended: bool) -> None:
        """EHLO or HELO: who the client says it is; a transaction under way is forgotten (RFC 5321 4.1.4)."""
        self.caller = caller(self.client, self.address, name, extended, self.secure)
        self.reset()

    def reset(self) -> None:
        """No transaction is under way."""
        self.mail = self.put_off = None

    def forget(self) -> None:
        """Nothing that was said in clear counts inside TLS (RFC 3207 section 4.2), but for failed logins."""
        self.caller = self.user = None
        self.login = ""
        self.reset()
        self._errors = 0

    def without_mail(self) -> Refused:
        """What RCPT and DATA are answered without a transaction: a client that pipelined them behind a MAIL
        which was refused for now must not see 5xx."""
        if self.put_off is None:
            return replies.out_of_order("MAIL first")
        reply = self.put_off.reply
        return Refused(reply.code, reply.enhanced, reply.text, self.put_off.reason)

    def begin_data(self, mail: Mail) -> None:
        """354 is about to be said. Raises QueueError when the queue cannot take content now."""
        service = self.service
        content = service.queue.content()
        mail.name = message_name(content.message)
        limits = service.limits
        trace = partial(mail.trace, service)
        self.begin_message(
            Intake(
                content,
                trace,
                limits.message_size,
                limits.hops,
                service.reject_bare,
                self._bug,
                service.revise,
            )
        )

    def _bug(self, error: Exception) -> None:
        self.service.events.bug("front", error)

    # --- the message

    def _step_data(self) -> bool:
        data = self.buffer[self.at :] if self.at else self.buffer
        self.buffer, self.at = b"", 0
        intake, mail = self.intake, self.mail
        if not data or intake is None or mail is None:
            return False
        rest = intake.feed(data)
        if rest is None:
            return False
        self.buffer = rest
        self.intake, intake.content.on_drain = None, None
        self.state = states.BUSY
        self._submit(mail, intake)
        return True

    def _submit(self, mail: Mail, intake: Intake) -> None:
        """The final dot was read: to the queue, unless something was found wrong."""
        envelope = mail.envelope(self.service, intake)

        def committed(_: int, error: Exception | None) -> None:
            self._committed(mail, envelope, intake, error)

        try:
            if intake.refusal is not None:
                raise intake.refusal
            content = cast(Any, intake.content)  # a mailqueue.Content
            message = Message(mail.sender, mail.lanes, content, envelope.pack(), envelope)
            self.service.queue.submit(message, committed)
        except Exception as error:
            committed(0, error)

    def _committed(self, mail: Mail, envelope: Envelope, intake: Intake, error: Exception | None) -> None:
        """Durable, or not: the reply to the final dot. The client may be gone; then the message is ours all
        the same."""
        service, content = self.service, intake.content
        if error is None:
            if intake.normalized:
                service.events.normalized(self.client)
            service.events.received(mail.name, envelope, content.size, len(mail.seen))
            self._errors = self._junk = 0
            self.useful = self.loop.time()
            self.admission.vouch(self.address)
            reply = f"250 2.0.0 queued as {mail.name}\r\n".encode()
        else:
            content.discard()
            reply = self._failure("DATA", error)
        self.mail = None
        self._resume("DATA", reply)

    def _resume(self, verb: str, reply: bytes) -> None:
        """BUSY is over: its reply, and on with what waits in the buffer."""
        if self.transport is None:
            self.service.events.command(verb, int(reply[:3]))
            return
        if self.state == states.BUSY:
            self.state = states.COMMAND
            self.deadline.put(COMMAND_TIME)
        self._reply(verb, reply)
        if self.stopping and self.state == states.COMMAND:
            self.say_last(CLOSING)
        self.advance()

    # --- commands that wait

    def wait_for(self, verb: str, work: Coroutine[Any, Any, bytes]) -> bytes:
        """For a command that cannot answer at once: `return session.wait_for("AUTH", work(...))`.

        The coroutine returns the reply or raises as a command does; input waits in the buffer. It is
        cancelled when the connection is lost, the client's time is out or the relay stops."""
        self.state = states.BUSY
        self.task = self.loop.create_task(work)
        self.task.add_done_callback(partial(self._worked, verb))
        return b""

    def _worked(self, verb: str, task: asyncio.Task[bytes]) -> None:
        self.task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._resume(verb, task.result())
        elif isinstance(error, Exception):
            self._resume(verb, self._failure(verb, error))

    def time_out(self, reply: Reply = TIMED_OUT) -> None:
        if self.state == states.DATA:
            self._rejected("data", Refused(421, "4.4.2", "time-out", "timeout"), "")
        super().time_out(reply)


def _queue_refusal(error: QueueError) -> Refused:
    if isinstance(error, NoSpace):
        return replies.no_space()
    return replies.shutting_down() if isinstance(error, QueueClosed) else replies.spool_trouble()


_STEPS: tuple[Callable[[Session], bool], ...] = (
    Session._step_command,
    Session._step_data,
    Session._wait,
    Session._wait,
    Session.step_proxy,
    Session._wait,
)
