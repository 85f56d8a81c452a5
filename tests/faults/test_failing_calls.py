"""Campaign 5: system calls on the spool that fail. Promises 1, 2, 7 and 12, judged by checker.py.

strace lets one kind of call fail, on one file, from one call on. What must hold for each: a 4xx that says
why, no 250 after a failure that is final, no second try of a failed sync, a line in the log, a clean start.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.by_hand import CLOSED, Hand
from faults.letter import LARGE
from faults.sizes import rounds
from faults.story import rest
from faults.strace import parse, strace
from faults.traced import attached, tasks, telling

SYNCS = ("fsync", "fdatasync")
SMALL = 1000  # octets
IO_ERROR = 74  # the exit code (sysexits.h, EX_IOERR)
TRIES = 8  # letters until one must have been refused
LOG, DATABASE, PROBE = "queue.db-wal", "queue.db", "probe"
TROUBLE, FULL = "451 4.3.0 ", "452 4.3.1 "


@dataclass(frozen=True, slots=True)
class Row:
    """fault: as strace has it. files: in the spool, () for all; reply: its beginning; ends: the process does;
    says: a part of the log line; main: also in the thread of the loop."""

    calls: tuple[str, ...]
    fault: str
    reply: str
    says: str
    files: tuple[str, ...] = (LOG,)
    size: int = SMALL
    ends: bool = True
    main: bool = True


ROWS = {
    "the log is not synced": Row(("fdatasync",), "error=EIO", TROUBLE, "spool sync: [Errno 5]"),
    "the log is not synced once": Row(("fdatasync",), "error=EIO:when=1", TROUBLE, "spool sync: [Errno 5]"),
    "the log's third sync fails": Row(("fdatasync",), "error=EIO:when=3", TROUBLE, "spool sync: [Errno 5]"),
    "the log's syncs fail from the third on": Row(
        ("fdatasync",), "error=EIO:when=3+", TROUBLE, "spool sync: [Errno 5]"
    ),
    "no space for a sync of the log": Row(("fdatasync",), "error=ENOSPC", TROUBLE, "spool sync: [Errno 28]"),
    "no quota for a sync of the log": Row(("fdatasync",), "error=EDQUOT", TROUBLE, "spool sync: [Errno 122]"),
    "the log is not written": Row(("pwrite64",), "error=EIO", TROUBLE, "spool write: disk I/O error"),
    "the log is not written, later": Row(
        ("pwrite64",), "error=EIO:when=5+", TROUBLE, "spool write: disk I/O error"
    ),
    "no space for the log": Row(
        ("pwrite64",), "error=ENOSPC", FULL, "spool write: database or disk is full", ends=False
    ),
    "no quota for the log": Row(
        ("pwrite64", "write"), "error=EDQUOT", FULL, "spool write: disk I/O error", (LOG, PROBE), ends=False
    ),
    "a content file is not synced": Row(
        ("fsync",), "error=EIO:when=1", TROUBLE, "spool content: [Errno 5]", (), LARGE, ends=False
    ),
    "no space for a sync of a content file": Row(
        ("fsync",), "error=ENOSPC:when=1", FULL, "spool content: [Errno 28]", (), LARGE, ends=False
    ),
    "no quota for a sync of a content file": Row(
        ("fsync",), "error=EDQUOT:when=1", FULL, "spool content: [Errno 122]", (), LARGE, ends=False
    ),
    "the directory of content files is not synced": Row(
        ("fsync",), "error=EIO", TROUBLE, "[Errno 5]", ("content",), LARGE
    ),
    "a content file is not closed": Row(
        ("close",), "error=EIO:when=1", TROUBLE, "spool content: [Errno 5]", (), LARGE, ends=False, main=False
    ),
}  # fmt: skip

RARE = (  # only in full size: others stand for them
    "the log is not synced once",
    "the log's syncs fail from the third on",
    "no quota for a sync of the log",
    "the log is not written, later",
    "no quota for a sync of a content file",
)


@pytest.mark.parametrize("name", [name for name in ROWS if rounds(0, 1) or name not in RARE])
def test_a_call_that_fails(tmp_path: Path, name: str) -> None:
    row, trace = ROWS[name], tmp_path / "trace"
    with telling(tmp_path) as campaign:
        relay, hand = campaign.relay, Hand(campaign)
        campaign.next_hop.turn_away()
        assert hand.send(2, LARGE) == [250] * 2
        paths = [word for file in row.files for word in ("-P", str(relay.spool / file))]
        command = strace(trace, row.calls, "-e", f"inject={','.join(row.calls)}:{row.fault}", *paths)
        rest(relay)  # or the first sync that fails is not a letter's
        threads = tasks(relay.pid) if row.main else tasks(relay.pid)[1:]
        with attached(relay, command, *threads):
            assert hand.until_refused(TRIES, row.size).startswith(replies(row.reply, row.fault))
            if row.ends:
                assert hand.gets_nothing()
                assert relay.wait() == IO_ERROR, relay.log()
        if row.ends:
            assert row.says in relay.log()
            assert "Traceback" not in relay.log()
        else:
            relay.wait_until(lambda: row.says in relay.log(), f"saying {row.says}")
            relay.wait_until(relay.ready, "well again")
            assert hand.send(3) == [250] * 3
            relay.kill9()
        campaign.restart(name)
        campaign.next_hop.welcome()
        findings = campaign.finish(30)
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] == hand.accepted
    assert tried_again(trace) == []


@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "error=EIO:when=3"])
def test_the_log_is_not_synced_by_the_c_library(tmp_path: Path, fault: str) -> None:
    """The same as with the thread of `single_thread`, in the one that every relay has."""
    trace = tmp_path / "trace"
    with telling(tmp_path, "relay") as campaign:
        relay, hand = campaign.relay, Hand(campaign)
        campaign.next_hop.turn_away()
        path = str(relay.spool / LOG)
        rest(relay)
        command = strace(trace, ["fdatasync"], "-f", "-e", f"inject=fdatasync:{fault}", "-P", path)
        with attached(relay, command, relay.pid):
            assert hand.until_refused(TRIES).startswith(replies(TROUBLE, fault))
            assert hand.gets_nothing()
            assert relay.wait() == IO_ERROR, relay.log()
        assert "spool sync: [Errno" in relay.log()
        campaign.restart(fault)
        campaign.next_hop.welcome()
        findings = campaign.finish(30)
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] == hand.accepted
    assert tried_again(trace) == []


def replies(reply: str, fault: str) -> tuple[str, ...]:
    """What may be said. A later sync may be a delivery's: who comes after it finds the relay closing."""
    return (reply, CLOSED) if ":when=3" in fault else (reply,)


def tried_again(trace: Path) -> list[str]:
    """Files that were synced after a sync of theirs had failed."""
    failed, again = set[str](), Counter[str]()
    with trace.open() as lines:
        for call in parse(lines):
            if call.name in SYNCS:
                again[call.file] += call.file in failed
                if call.result is not None and call.result < 0:
                    failed.add(call.file)
    return [file for file, count in again.items() if count]


@pytest.mark.parametrize("calls", ["fdatasync", "pwrite64"])
def test_a_checkpoint_that_fails(tmp_path: Path, calls: str) -> None:
    """Nobody waits for it, and yet it is final: the process ends, everything accepted is still in the log."""
    trace = tmp_path / "trace"
    with telling(tmp_path) as campaign:
        relay, hand = campaign.relay, Hand(campaign)
        campaign.next_hop.turn_away()
        path = str(relay.spool / DATABASE)
        command = strace(trace, [calls], "-e", f"inject={calls}:error=EIO", "-P", path)
        with attached(relay, command, *tasks(relay.pid)):
            assert hand.send(45, 100_000) == [250] * 45
            assert relay.wait() == IO_ERROR, relay.log()
        assert "spool checkpoint: disk I/O error" in relay.log()
        campaign.restart("checkpoint")
        campaign.next_hop.welcome()
        findings = campaign.finish(30)
    assert findings.clean, str(findings)
    assert findings.figures["accepted"] == hand.accepted
    assert tried_again(trace) == []
