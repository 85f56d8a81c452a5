"""A next hop that does at any reply what no server should: HostileHop, in clear or over TLS.

    hop = HostileHop(directory, random, tls="starttls", noted=campaign.note)
    hop.hostile = 0.05          # the share of replies in whose place there is a fault; 0: honest

What it keeps without a clear 250 it writes down as a Fault, with the queue id: the relay must count it as
possibly delivered, and may send it again. `done` counts the faults by stage and kind.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Literal

from fakes.scripted_server import server_context
from fakes.sink import EXTENSIONS, Received, SinkSession
from faults.history import Fault
from faults.impatient import DOT as DOT_TIME
from faults.letter import read_arrival
from faults.next_hop import NextHop

LATE = 1.5  # s, after the patience of a relay in a hurry (impatient.py) but for the dot
TOO_LATE = DOT_TIME + 1  # s
SILENCE = 8.0  # s
LINGER_OFF = struct.pack("ii", 1, 0)  # close() is a reset
GO_AHEAD = "354 or 250"  # to DATA: content follows, and its dot gets no answer
WORDS = {  # what is said in place of a reply
    "421": b"421 4.3.2 closing\r\n",
    "451": b"451 4.3.0 not now\r\n",
    "garbage": b"\x16\x03\x00\xff HTTP/1.1 200 OK\r\n",
    "no code": b"ok\r\n",
    "999": b"999 what\r\n",
    GO_AHEAD: b"354 or was it 250\r\n",
    "half a line": b"25",
    "half a reply": b"250-sink.exam",
    "endless": b"250-more\r\n" * 20_000,
    "overlong": b"250 " + b"x" * 200_000,
}
ENDS = frozenset({"421", "half a line", "half a reply"})  # and the connection is closed
ACTS = ("drop", "reset", "silence", "late", *WORDS)
OPENING = (*ACTS, "554", "twice", "narrow")  # CONNECT, EHLO, STARTTLS
DOT = (*ACTS, "drop", "reset", "twice", "too late")
FAULTS = {
    "CONNECT": OPENING,
    "EHLO": OPENING,
    "STARTTLS": OPENING,
    "HELLO": ("broken",),  # the handshake
    "DATA": (*ACTS, "cut"),
    "DOT": DOT,
}
CLEAR = frozenset(
    {"421", "451", "twice"}
)  # after the dot: the relay knows; "late" is too late where it is slow


Tls = Literal["off", "starttls", "implicit"]


class HostileHop(NextHop):
    def __init__(
        self,
        directory: Path,
        random: Random,
        *,
        tls: Tls = "off",
        noted: Callable[[Fault], None],
    ) -> None:
        super().__init__(directory, random, slow=0.0)
        self.hostile = 0.0
        self.done: Counter[str] = Counter()
        self.tls = tls
        self.context = server_context()
        self.noted = noted
        self.judged: Received | None = None
        if tls == "starttls":
            self.extensions = (*EXTENSIONS, "STARTTLS")

    def session(self) -> SinkSession:
        return HostileSession(self)

    def fault(self, stage: str) -> str:
        """ "" for none."""
        if self._random.random() >= self.hostile:
            return ""
        fault = self._random.choice(FAULTS.get(stage, ACTS))
        self.done[f"{stage} {fault}"] += 1
        return fault

    def dot(self, message: Received) -> str:
        self.judged = message
        return super().dot(message)

    def keeps(self) -> bool:
        """Half of what got no clear answer after the dot is there all the same."""
        return self._random.random() < 0.5


class HostileSession(SinkSession):
    sink: HostileHop

    def __init__(self, sink: HostileHop) -> None:
        super().__init__(sink)
        self.secured = self.narrow = False
        self.handshake: asyncio.Task[asyncio.Transport | None] | None = None
        self.verbs[b"STAR"] = self.starttls

    # --- TLS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.secured or self.sink.tls != "implicit":
            super().connection_made(transport)
            return
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.sink.fault("HELLO"):
            self.reset()
        else:
            self.secure()

    def starttls(self, line: bytes) -> None:
        if self.reply("STARTTLS", "220 2.0.0 go ahead").startswith("220") and self.transport:
            self.flush()
            if self.sink.fault("HELLO"):
                self.transport.write(b"\x15\x03\x01\x00\x02\x02\x28 this is no handshake\r\n")
                self.cut()
            else:
                self.secure()

    def secure(self) -> None:
        """Until that is done nothing is read or said."""
        transport, self.transport = self.transport, None
        assert transport
        transport.pause_reading()
        loop = asyncio.get_running_loop()
        self.handshake = loop.create_task(
            loop.start_tls(transport, self, self.sink.context, server_side=True)
        )
        self.handshake.add_done_callback(self.begin_again)

    def begin_again(self, handshake: asyncio.Task[asyncio.Transport | None]) -> None:
        """Inside TLS, or not at all."""
        if handshake.cancelled() or handshake.exception() or not (transport := handshake.result()):
            self.cut()
            return
        self.transport, self.secured = transport, True
        if self.sink.tls == "implicit":
            self.connection_made(transport)
        self.run()

    # --- what is said

    def reply(self, key: str, default: str) -> str:
        stage = "DOT" if key.startswith("DOT") else "RCPT" if "@" in key else key
        if stage == "EHLO" and self.secured:
            default = default.replace("250-STARTTLS\r\n", "").replace("\r\n250 STARTTLS", "\r\n250 HELP")
        text = self.sink.answer(key, default)
        fault = self.sink.fault(stage) if self.transport else ""
        if self.narrow and stage == "DOT":
            self.note("narrow")  # it may have taken so long to get here that nobody waits any more
        if not fault or (stage == "DOT" and not text.startswith("2")):
            return super().reply(key, default) if text == default else self.say(text)
        if stage == "DATA" and fault == GO_AHEAD:
            self.sink.noted(Fault("dot without an answer", in_flight=("?",)))
        self.flush()
        said = self.commit(fault, text) if stage == "DOT" else self.meant(stage, fault, text)
        self.do(fault, text)
        return said

    def say(self, text: str) -> str:
        self.output.append(text.encode() + b"\r\n")
        return text

    def meant(self, stage: str, fault: str, text: str) -> str:
        """Before the dot: what counts as said. A relay on a slow machine may take a late reply for a timely
        one; but STARTTLS goes on at once."""
        return text if fault == "twice" or (fault == "late" and stage != "STARTTLS") else ""

    def commit(self, fault: str, text: str) -> str:
        """After the dot: what counts as said, "" where the letter is not kept."""
        if fault in CLEAR:
            return "" if fault in ("421", "451") else text
        self.note(fault)
        return text if fault == "late" or self.sink.keeps() else ""

    def note(self, fault: str) -> None:
        assert self.sink.judged
        came = read_arrival(self.sink.judged.content, self.sink.judged.sender, (), 0.0)
        self.sink.noted(Fault(f"dot: {fault}", in_flight=(came.queue_id,)))

    def do(self, fault: str, text: str) -> None:
        """fault: one of ACTS, OPENING, DOT; text: what an honest server would say."""
        transport = self.transport
        assert transport
        loop = asyncio.get_running_loop()
        if fault == "drop":
            self.cut()
        elif fault == "reset":
            self.reset()
        elif fault == "silence":
            self.waiting = loop.call_later(SILENCE, self.cut)
        elif fault == "cut":
            self.sink.noted(Fault("cut in content", in_flight=("?",)))
            transport.write(text.encode() + b"\r\n")
            self.waiting = loop.call_later(0.005, self.reset)
        elif fault in ("late", "too late", "narrow", "twice", "554"):
            self.answer_oddly(fault, text)
        else:
            transport.write(WORDS[fault])
            if fault in ENDS:
                self.cut()
            else:
                self.waiting = loop.call_later(SILENCE, self.cut)

    def answer_oddly(self, fault: str, text: str) -> None:
        """What is said is a reply, but late, twice, with little room for more, or a refusal of everybody."""
        transport, loop = self.transport, asyncio.get_running_loop()
        assert transport
        if fault == "narrow":
            self.narrow = True
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            transport.pause_reading()
            loop.call_later(0.2, self.go_on_reading, transport)
        line = "554 5.3.2 go away" if fault == "554" else text
        self.output += [line.encode() + b"\r\n"] * (2 if fault == "twice" else 1)
        if fault.endswith("late"):
            self.waiting = loop.call_later(LATE if fault == "late" else TOO_LATE, self.wake)

    def go_on_reading(self, transport: asyncio.Transport) -> None:
        if transport is self.transport and not transport.is_closing():
            transport.resume_reading()

    def cut(self, *, reset: bool = False) -> None:
        if self.handshake is not None and not self.handshake.done():
            self.handshake.cancel()
        super().cut(reset=reset)

    def reset(self) -> None:
        """RST: what the relay has not read yet is lost as well."""
        transport = self.transport
        if transport is not None:
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        self.cut(reset=True)
