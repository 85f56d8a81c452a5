"""One message on one connection as a state machine without I/O (RFC 5321 3.3, RFC 2920, RFC 3461 section 5).

Rule: everything that decides a recipient's outcome during a transaction is in this file and in verdict.py.
Octets to write come out of `output`; replies go in one by one; the caller does what the returned `Step` says.
States are named after what is awaited. TABLE gives the handler of (state, first digit of the reply); what
is not in it is nonsense, which defers what is undecided and ends the connection. 421 does so in every
state.

    reset -> mail -> rcpt (once each) -> data -> content (being sent) -> dot -> end, or the next batch
    mail or every rcpt refused, commands pipelined behind it:  rcpt echo -> data echo [-> lone dot]

A batch is at most 100 recipients; recipients told 452 or 552 after a 250 go into the next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from relay.delivery import verdict
from relay.delivery.capabilities import Capabilities
from relay.delivery.commands import commands, what_is_lacking
from relay.delivery.job import Job, Kind, Verdict
from relay.delivery.reply_reader import clean
from relay.delivery.states import CONTENT, DONE, SEND, STATES, WAIT, Step
from relay.delivery.verdict import TOO_MANY, Ruling, Trouble
from relay.wire import END

BATCH = 100  # recipients per transaction: what every server must take (RFC 5321 4.5.3.1.8)


def transactions(recipients: int) -> int:
    """How many one message to so many recipients makes, as far as can be told before."""
    return max(1, -(-recipients // BATCH))


class Transaction:
    """job.todo over one connection: begin(), then reply() for each, or lost(), nonsense(), corrupt()."""

    def __init__(
        self, job: Job, offered: Capabilities, host: str, *, reused: bool = False, reset: bool = False
    ) -> None:
        """reused: the connection has served a job before; reset: that job left its `open` True."""
        self.verdict = Verdict()
        self.state = "mail"
        self.output = b""
        self.broken = False  # the connection is of no more use
        self.dotted = False  # a final dot was sent
        self.begun = 0  # MAIL commands said
        self.open = reset  # the peer has a MAIL that a RSET must clear
        self._job, self._offered, self._host = job, offered, host
        self._fresh_if_dead = reused  # until the first reply
        self._later: Sequence[int] = job.todo
        self._batch: Sequence[int] = ()
        self._accepted: list[int] = []
        self._rest: list[int] = []
        self._unsaid: list[bytes] = []  # stepwise: still to be said, last first
        self._elsewhere: set[int] = set()
        self._at = 0

    def begin(self) -> Step:
        """SEND, or DONE when the peer lacks what the message needs."""
        lacking = what_is_lacking(self._job, self._offered)
        if lacking is None:
            return self._next_batch()
        ruling = verdict.on_lacking(*lacking, self._host)
        for index in self._job.todo:
            self._job.results[index] = verdict.combine(self._job.results.get(index), ruling.outcome)
        self._elsewhere.update(self._job.todo)
        return self._end()

    def reply(self, code: int, text: bytes) -> Step:
        """The peer's next reply (text: octets behind the code)."""
        if code == 421:
            return self._closing(text)
        step = TABLE.get((self.state, code // 100), Transaction._unexpected)(self, code, text)
        self._fresh_if_dead = False
        return step

    @property
    def awaited(self) -> str:
        """What the peer owes now, in words."""
        return STATES[self.state][1]

    def content_sent(self) -> None:
        """The final dot has been handed to the transport."""
        self.state = "dot"
        self.dotted = True

    def lost(self, trouble: Trouble, text: str) -> Step:
        """EOF, RST or time-out; text for people."""
        if self.state == "end":
            return DONE
        if self._fresh_if_dead and trouble in (Trouble.EOF, Trouble.RESET):
            return self._dead()
        return self._trouble(trouble, text)

    def nonsense(self, text: str) -> Step:
        """What arrived is not a reply, or came before its command."""
        return self._trouble(Trouble.NONSENSE, text)

    def corrupt(self, text: str) -> Step:
        """The content is not what was accepted; the caller cuts the connection before the final dot."""
        self.verdict.kind, self.verdict.text = Kind.CORRUPT, text
        self.broken = True
        return self._end()

    def unreadable(self, text: str) -> Step:
        """The content cannot be read now (no descriptor, a disk error): deferred. The caller cuts too."""
        return self._break_off(lambda stage: verdict.on_our_trouble(stage, text))

    # --- what is said

    def _next_batch(self) -> Step:
        waiting = [*self._rest, *self._later] if self._rest else self._later
        self._batch, self._later = waiting[:BATCH], waiting[BATCH:]
        self._rest, self._accepted, self._at = [], [], 0
        try:
            said = commands(self._job, self._batch, self._offered, reset=self.open)
        except ValueError as error:
            self._rule([*self._batch, *self._later], verdict.on_our_trouble("mail", str(error)))
            return self._end()
        self.begun += 1
        self.state = "reset" if self.open else "mail"
        if self._offered.pipelining:
            self.output = b"".join(said)
        else:
            self._unsaid = said[::-1]
            self.output = self._unsaid.pop()
        return SEND

    def _go_on(self) -> Step:
        """Pipelined: the next reply is on its way. Stepwise: say the next command."""
        if not self._unsaid:
            return WAIT
        self.output = self._unsaid.pop()
        return SEND

    # --- what the peer says; each is a handler of TABLE

    def _reset_done(self, code: int, text: bytes) -> Step:
        self.state = "mail"
        self.open = False
        return self._go_on()

    def _mail_taken(self, code: int, text: bytes) -> Step:
        self.state = "rcpt"
        self.open = True
        return self._go_on()

    def _mail_refused(self, code: int, text: bytes) -> Step:
        ruling = verdict.on_reply("mail", code, clean(text), self._host)
        self._rule([*self._batch, *self._later], ruling)
        self._later = ()
        self.state = "rcpt echo"
        return self._end() if self._unsaid else WAIT

    def _rcpt_taken(self, code: int, text: bytes) -> Step:
        self._accepted.append(self._batch[self._at])
        return self._next_recipient()

    def _rcpt_refused(self, code: int, text: bytes) -> Step:
        index = self._batch[self._at]
        if code in TOO_MANY and self._accepted:
            self._rest.append(index)
            ruling = verdict.on_too_many(code, clean(text), self._host)
        else:
            ruling = verdict.on_reply("rcpt", code, clean(text), self._host)
        self._rule((index,), ruling)
        return self._next_recipient()

    def _next_recipient(self) -> Step:
        self._at += 1
        if self._at < len(self._batch):
            return self._go_on()
        if self._accepted:
            self.state = "data"
            return self._go_on()
        self.state = "data echo"
        return self._end_batch() if self._unsaid else WAIT

    def _go_ahead(self, code: int, text: bytes) -> Step:
        self.state = "content"
        return CONTENT

    def _refused_early(self, code: int, text: bytes) -> Step:
        """A refusal in the middle of the content: it stands, but the session can only be cut."""
        self._rule(self._accepted, verdict.on_reply("data", code, clean(text), self._host))
        self._accepted = []
        return self._trouble(Trouble.EOF, "the connection was cut after a refusal in mid-content")

    def _content_taken(self, code: int, text: bytes) -> Step:
        self.open = False
        outcome = verdict.delivered(code, clean(text), self._host, self._offered.dsn)
        results = self._job.results
        for index in self._accepted:
            results[index] = outcome
        if self._elsewhere:
            self._elsewhere.difference_update(self._accepted)
        return self._end_batch()

    def _content_refused(self, code: int, text: bytes) -> Step:
        """At DATA or at the dot, which ends the peer's transaction whatever it says."""
        self.open = self.state == "data"
        self._rule(self._accepted, verdict.on_reply(self.state, code, clean(text), self._host))
        return self._end_batch()

    def _rcpt_echo(self, code: int, text: bytes) -> Step:
        self._at += 1
        if self._at == len(self._batch):
            self.state = "data echo"
        return WAIT

    def _echoed(self, code: int, text: bytes) -> Step:
        return self._end_batch()

    def _lone_dot(self, code: int, text: bytes) -> Step:
        """354 although every RCPT was refused (RFC 2920 section 3.1)."""
        self.state = "lone dot"
        self.output = END
        return SEND

    def _unexpected(self, code: int, text: bytes) -> Step:
        if self.state == "reset" and self._fresh_if_dead:
            return self._dead()  # a peer that does not know RSET: the job is innocent
        return self.nonsense(f"unexpected reply: {code} {clean(text)}")

    # --- how it ends

    def _closing(self, text: bytes) -> Step:
        """421: as 4yz at this stage, and the connection ends (RFC 5321 3.8)."""
        if self._fresh_if_dead:
            return self._dead()
        said = clean(text)
        return self._break_off(lambda stage: verdict.on_reply(stage, 421, said, self._host))

    def _dead(self) -> Step:
        """A kept connection was dead before the first reply: not an attempt."""
        self.verdict.kind = Kind.FRESH
        self.broken = True
        self.state = "end"
        return DONE

    def _trouble(self, trouble: Trouble, text: str) -> Step:
        return self._break_off(lambda stage: verdict.on_trouble(stage, trouble, text, self._host))

    def _break_off(self, judge: Callable[[str], Ruling]) -> Step:
        """The connection ends here: judge(stage) decides what is undecided."""
        self.broken = True
        undecided = self._undecided()
        if undecided:
            self._rule(undecided, judge(STATES[self.state][0]))
        if self._later:
            self._rule(self._later, judge("mail"))
        return self._end()

    def _undecided(self) -> Sequence[int]:
        if self.state in ("reset", "mail"):
            return self._batch
        if self.state == "rcpt":
            return [*self._accepted, *self._batch[self._at :]]
        return self._accepted if self.state in ("data", "content", "dot") else ()

    def _rule(self, indices: Iterable[int], ruling: Ruling) -> None:
        for index in indices:
            self._job.results[index] = ruling.outcome
        if ruling.elsewhere:
            self._elsewhere.update(indices)
        else:
            self._elsewhere.difference_update(indices)
        if ruling.lane:
            self.verdict.lane = ruling.lane

    def _end_batch(self) -> Step:
        return self._next_batch() if self._rest or self._later else self._end()

    def _end(self) -> Step:
        self.state = "end"
        if self._elsewhere:
            self.verdict.elsewhere = sorted(self._elsewhere)
        return DONE


Handler = Callable[[Transaction, int, bytes], Step]
TABLE: dict[tuple[str, int], Handler] = {
    ("reset", 2): Transaction._reset_done,
    ("mail", 2): Transaction._mail_taken,
    ("rcpt", 2): Transaction._rcpt_taken,
    ("data", 3): Transaction._go_ahead,
    ("dot", 2): Transaction._content_taken,
    ("rcpt echo", 2): Transaction._rcpt_echo,
    ("data echo", 3): Transaction._lone_dot,
    ("lone dot", 2): Transaction._echoed,
}
REFUSED: dict[str, Handler] = {
    "mail": Transaction._mail_refused,
    "rcpt": Transaction._rcpt_refused,
    "data": Transaction._content_refused,
    "content": Transaction._refused_early,
    "dot": Transaction._content_refused,
    "rcpt echo": Transaction._rcpt_echo,
    "data echo": Transaction._echoed,
    "lone dot": Transaction._echoed,
}
TABLE.update({(state, digit): handler for state, handler in REFUSED.items() for digit in (4, 5)})
