"""The order checker and the reading of strace: each rule has a log that breaks it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from faults.commits import Commit
from faults.order import Order
from faults.strace import parse

CLIENT, HOP = "TCP:[127.0.0.1:25->127.0.0.1:5001]", "TCP:[127.0.0.1:5002->127.0.0.1:26]"
LOG, FILE, CONTENT = "/spool/queue.db-wal", "/spool/content/0a", "/spool/content"
WHO = "ok.0.L@a.example"
NEVER = "never.0.L@a.example"


def hexed(text: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in text)


def wrote(file: str, data: bytes) -> str:
    return f'10 write(7<{file}>, "{hexed(data)}", {len(data)}) = {len(data)}'


def read(file: str, data: bytes) -> str:
    return f'10 read(7<{file}>, "{hexed(data)}", 65536) = {len(data)}'


def synced(file: str, result: str = "0") -> str:
    return f"11 fdatasync(5<{file}>) = {result}"


CREATED = f'12 openat(AT_FDCWD</x>, "{hexed(FILE.encode())}", O_WRONLY|O_CREAT|O_EXCL, 0600) = 9<{FILE}>'
REMOVED = f'12 unlink("{hexed(FILE.encode())}") = 0'
PUT = "PUT"  # stands for the COMMIT that brings the entry 0a
ENDED = "ENDED"  # the one after which its recipients are gone
REPLY = wrote(CLIENT, b"250 2.0.0 queued as 0a\r\n")
ACCEPTED = [PUT, synced(LOG), REPLY]
ASKED = wrote(HOP, f"MAIL FROM:<a@b>\r\nRCPT TO:<{WHO}>\r\nDATA\r\n".encode())
GO_ON = read(HOP, b"250 ok\r\n250 ok\r\n354 go on\r\n")
SENT = [wrote(HOP, b"X-Letter: L\r\n"), wrote(HOP, b".\r\n")]
KEPT = read(HOP, b"250 2.0.0 kept\r\n")
DELIVERED = [ASKED, GO_ON, *SENT, KEPT, ENDED]


def order(lines: Sequence[str], recipient: str = WHO, failed: Sequence[str] = (), dropped: str = "") -> Order:
    """PUT and ENDED become one write to the log each, and the commit that this write ends."""
    frame = wrote(LOG, b"frame")
    calls = parse([frame if line in (PUT, ENDED) else line for line in lines])
    commits = []
    for line, call in zip(lines, sorted(calls, key=lambda call: call.begin), strict=True):
        if line == PUT:
            commits.append(Commit(call, call, {("0a", "lane"): (recipient,)}))
        elif line == ENDED:
            commits.append(Commit(call, call, {}, set(failed)))
    return Order(calls, commits, frozenset({dropped}))


def test_a_right_order_passes() -> None:
    """A large letter from its file to its end, and one that an operator removes."""
    stored = [CREATED, wrote(FILE, b"body"), synced(FILE), synced(CONTENT)]
    made = order([*stored, *ACCEPTED, *DELIVERED, synced(LOG), REMOVED])
    assert (made.violations(), made.acknowledged) == ([], 1)
    assert order([*ACCEPTED, ENDED], dropped="L").violations() == []


@pytest.mark.parametrize(
    ("rule", "lines"),
    [
        ("A", [PUT, REPLY]),
        ("A", [REPLY, PUT, synced(LOG)]),
        ("A", [synced(LOG), PUT, REPLY]),
        ("A", [PUT, REPLY, synced(LOG)]),
        ("A", [PUT, synced(LOG, "-1 EIO (Input/output error)"), REPLY]),
        ("A", [PUT, synced("/spool/queue.db"), REPLY]),
        ("B", [CREATED, wrote(FILE, b"x"), synced(CONTENT), *ACCEPTED]),
        ("B", [CREATED, synced(FILE), wrote(FILE, b"x"), synced(CONTENT), *ACCEPTED]),
        ("B", [CREATED, wrote(FILE, b"x"), synced(FILE), *ACCEPTED]),
        ("B", [CREATED, wrote(FILE, b"x"), synced(CONTENT), synced(FILE), *ACCEPTED]),
        ("B", [CREATED, wrote(FILE, b"x"), synced(FILE), PUT, synced(CONTENT), synced(LOG), REPLY]),
        ("C", [*ACCEPTED, ENDED]),
        ("C", [*ACCEPTED, ASKED, GO_ON, *SENT, ENDED, KEPT]),
        ("C", [*ACCEPTED, ASKED, GO_ON, ENDED, *SENT, KEPT]),
        ("C", [*ACCEPTED, ASKED, GO_ON, *SENT, read(HOP, b"451 4.7.1 later\r\n"), ENDED]),
        ("E", [PUT, REMOVED]),
        ("E", [PUT, synced(LOG), REPLY, *DELIVERED, REMOVED, synced(LOG)]),
    ],
)
def test_each_rule_can_be_broken(rule: str, lines: list[str]) -> None:
    assert {violation[0] for violation in order(lines).violations()} == {rule}


def test_a_bounce_comes_with_the_end_of_its_cause() -> None:
    """Rule D: in the same COMMIT, not in a later one."""
    asked = wrote(HOP, f"RCPT TO:<{NEVER}>\r\n".encode())
    lines = [*ACCEPTED, asked, read(HOP, b"250 ok\r\n550 5.1.1 nobody\r\n"), ENDED]
    assert order(lines, NEVER, failed=[NEVER]).violations() == []
    assert [violation[0] for violation in order(lines, NEVER).violations()] == ["D"]


def test_calls_of_threads_that_overlap() -> None:
    """A sync that another thread's write interrupts in the log began before and ended after it."""
    calls = parse(
        [
            f"11 fdatasync(5<{hexed(LOG.encode())}> <unfinished ...>",
            wrote(CLIENT, b"250"),
            "--- SIGCHLD {} ---",
            "11 <... fdatasync resumed>) = 0",
            "10 <... read resumed>) = 5",
            '10 writev(7<UNIX-STREAM:[1->2]>, [{iov_base="\\x61\\x62", iov_len=2}, '
            '{iov_base="\\x63", iov_len=1}], 2) = 2',
            "10 fsync(3</a>",
            "10 write(1</dev/null>, <unfinished ...>",
        ]
    )  # fmt: skip
    sync, write, vector = calls[:3]
    assert (sync.begin, sync.end, sync.file, sync.result) == (1, 4, LOG, 0)
    assert (write.begin, write.end, write.data) == (2, 2, b"250")
    assert (vector.file, vector.data) == ("UNIX-STREAM:[1->2]", b"ab")
    assert calls[-1].result is None
    assert not calls[-1].worked


def test_the_arguments_of_a_call() -> None:
    (call,) = parse(['9 pwrite64(5</s/queue.db-wal>, "\\x00\\x01", 2, 4152) = 2'])
    assert (call.thread, call.name, call.file) == (9, "pwrite64", "/s/queue.db-wal")
    assert (call.data, call.offset, call.result) == (b"\0\1", 4152, 2)
