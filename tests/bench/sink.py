"""The next hop of the bench: a cheap SMTP sink in a process of its own, that counts and notes arrivals.

    with Sink() as sink:
        sink.port ... sink.wait(1000, 60).last

smtp-source numbers its recipients (-N), so what is missing and what came twice is known. Told to refuse, it
answers 450 to every RCPT. Standard library only: this file is also the program that the process runs.
"""

from __future__ import annotations

import contextlib
import gc
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, Self

END = b"\r\n.\r\n"
ROOM = memoryview(bytearray(256 * 1024))  # for one read
REACH = 8192  # octets; nobody sends more behind a final dot before its answer
EHLO = (
    b"250-sink.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n250-ENHANCEDSTATUSCODES\r\n250-SMTPUTF8\r\n"
    b"250 8BITMIME\r\n"
)
LATER = b"450 4.2.0 later\r\n"


@dataclass(frozen=True)
class Seen:
    """recipients: arrived, of messages answered 250; distinct: their different numbers; refused: RCPTs
    answered 450; last: when the last message was answered (s, monotonic); cpu: of the sink (s)."""

    messages: int
    recipients: int
    distinct: int
    refused: int
    last: float
    cpu: float


class Sink:
    """The process, seen from the bench."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
            self.port: int = listening.getsockname()[1]
            number = listening.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-E", "-S", __file__, str(number)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[number],
                process_group=0,  # it ends with its standard input, not with Ctrl-C
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._process as process:  # closes its pipes
            process.kill()

    def seen(self) -> Seen:
        return Seen(**self._ask("seen", 30))

    def forget(self) -> None:
        """Counts from nothing, all numbers new."""
        self._ask("forget", 30)

    def refuse(self, refused: bool) -> None:
        self._ask("refuse" if refused else "accept", 30)

    def wait(self, recipients: int, seconds: float) -> Seen:
        """Once so many have arrived; TimeoutError when they have not."""
        self._ask(f"wait {recipients}", seconds)
        return self.seen()

    def arrivals(self) -> dict[int, float]:
        """The number of each message's first recipient -> when it was answered; of the first 100,000."""
        return {int(number): at for number, at in self._ask("arrivals", 30).items()}

    def _ask(self, what: str, seconds: float) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(what.encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self._process.kill()  # its answer would be taken for that to another question
            raise TimeoutError(f"the next hop waited {seconds:g} s: {what}")
        return json.loads(self._process.stdout.readline() or "{}")


class Counted:
    """What the sink's process knows."""

    def __init__(self) -> None:
        self.refusing = False
        self.wanted = 0  # recipients to report; 0: none
        self.forget()

    def forget(self) -> None:
        self.messages = self.recipients = self.refused = 0
        self.numbers: set[int] = set()
        self.arrivals: dict[int, float] = {}
        self.last = 0.0

    def arrived(self, numbers: list[int], count: int) -> None:
        self.last = time.monotonic()
        self.messages += 1
        self.recipients += count
        self.numbers.update(numbers)
        if numbers and len(self.arrivals) < 100_000:
            self.arrivals[numbers[0]] = self.last
        if self.wanted:
            self.tell()

    def tell(self) -> None:
        if self.recipients >= self.wanted:
            self.wanted = 0
            say({})

    def obey(self, line: str) -> None:
        word, _, value = line.partition(" ")
        if word == "wait":
            self.wanted = int(value)
            return self.tell()
        if word == "forget":
            self.forget()
        elif word in ("refuse", "accept"):
            self.refusing = word == "refuse"
        return say(self.facts() if word == "seen" else self.arrivals if word == "arrivals" else {})

    def facts(self) -> dict[str, float]:
        return {
            "messages": self.messages, "recipients": self.recipients, "distinct": len(self.numbers),
            "refused": self.refused, "last": self.last, "cpu": time.process_time(),
        }  # fmt: skip


class Session:
    """One connection: octets in, replies out."""

    __slots__ = ("buffer", "content", "count", "counted", "numbers", "over", "socket")

    def __init__(self, connection: socket.socket, counted: Counted) -> None:
        self.socket, self.counted = connection, counted
        self.buffer = b""
        self.content = self.over = False
        self.numbers: list[int] = []
        self.count = 0

    def feed(self, data: bytes) -> bytes:
        """The replies to what has come so far."""
        self.buffer += data
        replies: list[bytes] = []
        while self.content_ends(replies) if self.content else self.commands(replies):
            pass
        return b"".join(replies)

    def content_ends(self, replies: list[bytes]) -> bool:
        """The content is counted once it is there; until then its last octets are kept."""
        _, end, rest = self.buffer.partition(END)
        if not end:
            self.buffer = self.buffer[-4:]
            return False
        self.buffer, self.content = rest, False
        self.counted.arrived(self.numbers, self.count)
        self.numbers, self.count = [], 0
        replies.append(b"250 2.0.0 ok\r\n")
        return True

    def commands(self, replies: list[bytes]) -> bool:
        """All that are complete, as far as the next content: True when there is one."""
        *lines, self.buffer = self.buffer.split(b"\r\n")
        for at, line in enumerate(lines, 1):
            replies.append(self.command(line))
            if self.content:  # the line end is put there so that a lone dot is found too
                self.buffer = b"\r\n".join([b"", *lines[at:], self.buffer])
                return True
        return False

    def command(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"RCPT":
            return self.recipient(line)
        if verb == b"DATA":
            self.content = self.count > 0
            return b"354 go on\r\n" if self.content else b"554 5.5.1 no valid recipients\r\n"
        if verb == b"EHLO":
            return EHLO
        if verb == b"QUIT":
            self.over = True
            return b"221 2.0.0 bye\r\n"
        self.numbers, self.count = [], 0
        return b"250 2.0.0 ok\r\n"

    def recipient(self, line: bytes) -> bytes:
        if self.counted.refusing:
            self.counted.refused += 1
            return LATER
        local = line[line.find(b"<") + 1 : line.find(b"@")]
        if local.isdigit():
            self.numbers.append(int(local))
        self.count += 1
        return b"250 2.1.5 ok\r\n"


def say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def serve(listening: socket.socket) -> None:
    """Until standard input ends."""
    counted, sessions = Counted(), dict[int, Session]()
    poll = select.epoll()
    for number in (0, listening.fileno()):
        poll.register(number, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            session = sessions.get(number)
            if session:
                if not answered(session):
                    sessions.pop(number).socket.close()  # epoll forgets it
            elif number:
                greet(listening, counted, sessions, poll)
            else:
                line = sys.stdin.readline()  # one question at a time: nothing stays in the buffer
                if not line:
                    return
                counted.obey(line.strip())


def greet(
    listening: socket.socket, counted: Counted, sessions: dict[int, Session], poll: select.epoll
) -> None:
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(10)
    sessions[connection.fileno()] = Session(connection, counted)
    poll.register(connection.fileno(), select.EPOLLIN)
    with contextlib.suppress(OSError):
        connection.send(b"220 sink.example ESMTP\r\n")


def answered(session: Session) -> bool:
    """Takes what a client says and answers it; False: the connection is at its end."""
    try:
        length = session.socket.recv_into(ROOM)
        first = 0
        if session.content and length > REACH:  # all but the end is dropped uncopied
            first, session.buffer = length - REACH, b""
        if replies := session.feed(bytes(ROOM[first:length])):
            session.socket.sendall(replies)
    except OSError:
        return False
    return length > 0 and not session.over


if __name__ == "__main__":
    gc.disable()
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited)
