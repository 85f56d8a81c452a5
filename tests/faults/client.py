"""One SMTP client of the load: pipelined, and it says what it was told at each step."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from faults.letter import Letter

_QUEUED = re.compile(r"queued as (\w+)")
PATIENCE = 30.0  # s for one reply


class Gone(Exception):
    """The connection ended, or there was none."""


@dataclass(slots=True)
class Answer:
    """What became of one letter so far. code: of the last reply that decides, 0: none yet."""

    recipients: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    code: int = 0
    queue_id: str = ""
    text: str = ""  # of that reply, with its code
    dotted: bool = False  # the final dot may have been sent


class Client:
    """One connection. Gone is raised by whatever meets its end."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        """address: its own, on loopback."""
        try:
            self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE, (address, 0))
        except OSError as error:
            raise Gone(str(error)) from error
        self._lines = self._socket.makefile("rb")
        try:
            self._reply()
            self._send(b"EHLO load.example\r\n")
            self._reply()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def deliver(self, letter: Letter, answer: Answer) -> None:
        """Hands the letter over; `answer` is filled in as replies come, so it is true also after Gone."""
        commands = [f"MAIL FROM:<{letter.sender}>", *(f"RCPT TO:<{to}>" for to in letter.recipients), "DATA"]
        self._send("".join(f"{line}\r\n" for line in commands).encode())
        mail, said = self._reply()
        verdicts = [(to, self._reply()[0]) for to in letter.recipients]
        answer.recipients = tuple(to for to, code in verdicts if code // 100 == 2)
        answer.refused = tuple(to for to, code in verdicts if code // 100 != 2)
        data, text = self._reply()
        if data != 354:
            answer.code, answer.text = (mail, said) if mail // 100 != 2 else (data, text)
            self._send(b"RSET\r\n")
            self._reply()
            return
        answer.dotted = True
        self._send(letter.wire)
        answer.code, answer.text = self._reply()
        found = _QUEUED.search(answer.text)
        answer.queue_id = found[1] if found else ""

    def begin(self, letter: Letter) -> None:
        """Sends all but the final dot."""
        commands = [f"MAIL FROM:<{letter.sender}>", *(f"RCPT TO:<{to}>" for to in letter.recipients), "DATA"]
        self._send("".join(f"{line}\r\n" for line in commands).encode())
        for _ in commands:
            self._reply()
        self._send(letter.wire[:-3])

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Gone(str(error)) from error

    def _reply(self) -> tuple[int, str]:
        text = ""
        while True:
            try:
                line = self._lines.readline(4096).decode("ascii", "replace")
            except OSError as error:
                raise Gone(str(error)) from error
            if not line.endswith("\n"):
                raise Gone("end of file")
            text += line
            if line[3:4] != "-":
                return int(line[:3]), text
