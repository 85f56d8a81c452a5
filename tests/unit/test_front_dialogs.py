"""Every file of tests/dialogs is one conversation over a real loopback socket, on both event loops.

A line is a directive:

    set: KEY=VALUE     configuration, before anything else (nested keys with dots, VALUE is JSON)
    listen: KEY=VALUE  the same of the listener
    user: NAME PASSWORD SENDERS   may log in; senders: as in users_file, or none
    LOGIN: M RESULT NAME          the last event of AUTH: mechanism, result, user
    queue: NAME        the queue answers with this error of mailqueue.errors
    C: text            the client sends text and CRLF; C lines in a row leave in one write
    R: text            the same without the CRLF
    S: pattern         the next reply line; * matches anything
    SHUT               the client sends no more
    CLOSED             the server closes the connection
    STORED: s -> r, r  the last message accepted: its sender and recipients, in order of lanes
    BODY: text         what stands below our Received header in it
    HEAD: pattern      our Received header; folds are a space, "|" is CRLF
    WHOLE: pattern     the whole message, in the same form

Escapes in C, R and BODY: \\r \\n \\0 \\xHH \\uHHHH and \\\\; C{n}: repeats the line n times.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fakes.front import RecordingEvents, make_service
from fakes.memory_queue import MemoryQueue

import mailqueue.errors
from relay.front.admission import Admission
from relay.front.authenticator import Authenticator
from relay.front.listener import Listener, stop_listeners
from relay.users.listing import Listing, parse_listing
from relay.users.password import Cost, make_hash

DIALOGS = sorted((Path(__file__).parent.parent / "dialogs").glob("*.txt"))
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
CHEAP = Cost(ln=10)
PATIENCE = 5.0  # seconds until a reply is missed
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([rn0t\\]))")
_PLAIN = {"r": b"\r", "n": b"\n", "0": b"\0", "t": b"\t", "\\": b"\\"}


def unescape(text: str) -> bytes:
    parts, at = [], 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[at : match.start()].encode())
        octet, code, plain = match.groups()
        parts.append(
            bytes.fromhex(octet) if octet else chr(int(code, 16)).encode() if code else _PLAIN[plain]
        )
        at = match.end()
    return b"".join([*parts, text[at:].encode()])


def directives(path: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(
            r"(set|listen|user|LOGIN|queue|C(?:\{\d+\})?|R|S|SHUT|CLOSED|STORED|BODY|HEAD|WHOLE)(?:: ?(.*))?",
            line,
        )
        assert match, f"{path.name}:{number}: not a directive: {line}"
        found.append((match[1], match[2] or ""))
    return found


def settings(found: list[tuple[str, str]], directive: str = "set") -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name, text in found:
        if name == directive:
            keys, _, value = text.partition("=")
            *path, last = keys.split(".")
            section = config
            for key in path:
                section = section.setdefault(key, {})
            section[last] = json.loads(value)
    return config


def users(found: list[tuple[str, str]]) -> Listing:
    """Those of the `user` directives, with hashes as cheap as a line may have."""
    lines = []
    for name, text in found:
        if name == "user":
            user, password, senders = (*unescape(text).decode().split(" "), "")[:3]
            lines.append(f"{user}:{make_hash(password, bytes(16), CHEAP).line}:{senders}")
    listing = parse_listing("\n".join(lines))
    assert not listing.problems
    return listing


class Player:
    """Plays one dialog; every mismatch names the directive."""

    def __init__(self, queue: MemoryQueue, events: RecordingEvents, port: int) -> None:
        self.queue = queue
        self.events = events
        self.port = port
        self.sending = b""
        self.begun = b""

    async def play(self, found: list[tuple[str, str]]) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for number, (name, text) in enumerate(found):
                if not re.match(r"C$|C\{|R$", name):
                    self._send()
                step: Callable[[str, str], Any] = getattr(self, "do_" + name.partition("{")[0])
                try:
                    result = step(name, text)
                    if asyncio.iscoroutine(result):
                        await asyncio.wait_for(result, PATIENCE)
                except (AssertionError, TimeoutError) as error:
                    raise AssertionError(f"directive {number}, {name}: {text}: {error}") from error
        finally:
            self.writer.close()
            await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    def _send(self) -> None:
        if self.sending:
            self.writer.write(self.sending)
            self.sending = b""

    def do_set(self, _: str, __: str) -> None: ...

    do_listen = do_user = do_set

    def do_LOGIN(self, _: str, text: str) -> None:
        assert " ".join(self.events.logins[-1]).strip() == unescape(text).decode()

    def do_queue(self, _: str, text: str) -> None:
        self.queue.refusal = getattr(mailqueue.errors, text)("trouble") if text else None

    def do_C(self, name: str, text: str) -> None:
        times = int(name[2:-1]) if "{" in name else 1
        self.sending += (unescape(text) + b"\r\n") * times

    def do_R(self, _: str, text: str) -> None:
        self.sending += unescape(text)

    async def do_S(self, _: str, pattern: str) -> None:
        line = (await self.reader.readline()).decode()
        assert matches(pattern, line.removesuffix("\r\n")) and line.endswith("\r\n"), f"got {line!r}"

    def do_SHUT(self, _: str, __: str) -> None:
        self.writer.write_eof()

    async def do_CLOSED(self, _: str, __: str) -> None:
        rest = await self.reader.read()
        assert rest == b"", f"got {rest!r}"

    def do_STORED(self, _: str, text: str) -> None:
        message = self.queue.accepted[-1].message
        recipients = ", ".join(
            " ".join(filter(None, (one.address, one.options)))
            for lane in message.lanes.values()
            for one in lane
        )
        assert f"{message.sender} -> {recipients}".strip() == text.strip()

    def do_BODY(self, _: str, text: str) -> None:
        assert self._content()[1] == unescape(text)

    def do_HEAD(self, _: str, text: str) -> None:
        head = self._content()[0].decode()
        assert matches(text, head.replace("\r\n\t", " ").replace("\r\n", "|")), f"got {head!r}"

    def do_WHOLE(self, _: str, text: str) -> None:
        whole = b"".join(self._content()).decode()
        assert matches(text, whole.replace("\r\n\t", " ").replace("\r\n", "|")), f"got {whole!r}"

    def _content(self) -> tuple[bytes, bytes]:
        data = self.queue.accepted[-1].content.data
        head, mark, body = data.partition(b" +0000\r\n")
        assert data.startswith(b"Received: from ") and mark
        return head + mark, body


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


async def converse(path: Path) -> tuple[MemoryQueue, RecordingEvents]:
    found = directives(path)
    queue, events = MemoryQueue(), RecordingEvents()
    authenticator = Authenticator(events)
    authenticator.learn(users(found))
    service = make_service(
        settings(found), queue, events, keys=settings(found, "listen"), authenticator=authenticator
    )
    admission: Admission[Any] = Admission(service.limits.sessions, service.limits.sessions_per_client)
    listener = Listener(service, admission)
    await listener.start()
    try:
        await Player(queue, events, listener.address[1]).play(found)
    finally:
        await stop_listeners([listener], admission, PATIENCE)
        authenticator.close()
    return queue, events


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
def test_dialog(path: Path, loop: str) -> None:
    """The conversation goes as written, no bug is met, nothing is left behind."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        queue, events = runner.run(converse(path))
    assert events.bugs == []
    assert queue.leftovers == []
    assert events.opened == events.closed


def test_there_are_dialogs() -> None:
    assert len(DIALOGS) > 20


@pytest.mark.parametrize(
    ("pattern", "text", "expected"), [("250 *", "250 ok", True), ("250 *", "550 ok", False)]
)
def test_pattern(pattern: str, text: str, expected: bool) -> None:
    """A pattern that does not fit is noticed."""
    assert matches(pattern, text) is expected
