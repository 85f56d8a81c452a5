"""Capturing instead of sending: two files, whole or not at all, and trouble that defers."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from fakes.jobs import CONTENT, job
from hypothesis import given
from hypothesis import strategies as st

from mailqueue.entry import Recipient
from relay.delivery.capture import _unstuffed, capture
from relay.delivery.job import Job, Kind
from relay.envelope import Envelope
from relay.outcome import Deferred, Delivered
from relay.reply import Reply
from relay.wire import stuff, unstuff

NAME = "13-7"  # message 35, entry 7
LARGE = b"".join(b"..%d a line that begins with a dot\r\n" % number for number in range(20_000))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_two_files(tmp_path: Path) -> None:
    """The mail as a program reads it, and the envelope beside it; every recipient is delivered."""
    envelope = Envelope("alice@example.com", envid="Q1", ret="HDRS", client="app[192.0.2.7]", login="ci")
    work = job(Recipient("bob@example.org", "NOTIFY=NEVER"), "é@example.org", envelope=envelope)
    verdict = await capture(tmp_path, work)
    assert [f"{NAME}.eml", f"{NAME}.json"] == names(tmp_path)
    assert (
        (tmp_path / f"{NAME}.eml").read_bytes()
        == unstuff(CONTENT)
        == b"Subject: hello\r\n\r\n.a dot\r\nbye\r\n"
    )
    facts = json.loads((tmp_path / f"{NAME}.json").read_bytes())
    assert facts["sender"] == "alice@example.com"
    assert facts["recipients"] == [
        {"address": "bob@example.org", "options": "NOTIFY=NEVER"},
        {"address": "é@example.org", "options": ""},
    ]
    assert (facts["id"], facts["envid"], facts["ret"], facts["login"]) == ("13", "Q1", "HDRS", "ci")
    outcome = Delivered(Reply(0, "2.0.0", f"captured as {NAME}.eml"), f"capture:{tmp_path}")
    assert work.results == {0: outcome, 1: outcome}
    assert verdict.kind is Kind.DONE
    assert stat.S_IMODE((tmp_path / f"{NAME}.eml").stat().st_mode) == 0o600


async def test_only_todo(tmp_path: Path) -> None:
    """Only the recipients of this attempt are named."""
    work = job("a@example.org", "b@example.org", todo=[1])
    await capture(tmp_path, work)
    facts = json.loads((tmp_path / f"{NAME}.json").read_bytes())
    assert [person["address"] for person in facts["recipients"]] == ["b@example.org"]
    assert list(work.results) == [1]


async def test_large(tmp_path: Path) -> None:
    """Content in a file of its own is un-stuffed on the way."""
    directory = tmp_path / "out"
    await capture(directory, job(content=LARGE, path=tmp_path / "content"))
    assert (directory / f"{NAME}.eml").read_bytes() == unstuff(LARGE)


async def test_again_is_not_a_duplicate(tmp_path: Path) -> None:
    """An attempt that is repeated after a crash replaces its own files."""
    await capture(tmp_path, job())
    (tmp_path / f".{NAME}.eml.part").write_bytes(b"left behind by a crash")
    await capture(tmp_path, job())
    assert names(tmp_path) == [f"{NAME}.eml", f"{NAME}.json"]


async def test_empty_content(tmp_path: Path) -> None:
    """No content is an empty file."""
    await capture(tmp_path, job(content=b""))
    assert (tmp_path / f"{NAME}.eml").read_bytes() == b""


def deferred(work: Job) -> str:
    outcome = work.results[0]
    assert isinstance(outcome, Deferred)
    return outcome.reply.enhanced


async def test_the_directory_is_made(tmp_path: Path) -> None:
    """The last part of the path is made, for its owner only; a parent that is missing is a mistake."""
    await capture(tmp_path / "new", job())
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    work = job()
    verdict = await capture(tmp_path / "typo" / "new", work)
    assert (deferred(work), verdict.lane) == ("4.3.0", "capture")
    assert str(tmp_path / "typo") in work.results[0].reply.text


async def test_not_a_directory(tmp_path: Path) -> None:
    """A file in the place of the directory defers."""
    (tmp_path / "file").write_bytes(b"")
    work = job()
    verdict = await capture(tmp_path / "file", work)
    assert (deferred(work), verdict.lane, verdict.kind) == ("4.3.0", "capture", Kind.DONE)


@pytest.mark.parametrize(
    ("number", "enhanced"),
    [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.3.1"), (errno.EIO, "4.3.0"), (errno.EROFS, "4.3.0")],
)
async def test_trouble_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, enhanced: str
) -> None:
    """A disk that is full or broken defers, and no half of a mail is left."""

    def fails(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    work = job()
    verdict = await capture(tmp_path, work)
    assert (deferred(work), verdict.lane) == (enhanced, "capture")
    assert names(tmp_path) == []


async def test_synced_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files, then the names, then the directory: in this order."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        order.append(f"name {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    await capture(tmp_path, job())
    assert order == [
        f"sync .{NAME}.json.part",
        f"sync .{NAME}.eml.part",
        f"name {NAME}.json",
        f"name {NAME}.eml",
        f"sync {tmp_path.name}",
    ]


@pytest.mark.parametrize("harm", ["changed", "cut", "not loaded"])
async def test_corrupt_content(tmp_path: Path, harm: str) -> None:
    """What is not what was accepted is not captured."""
    directory = tmp_path / "out"
    work = job(content=LARGE, path=tmp_path / "content")
    if harm == "changed":
        (tmp_path / "content").write_bytes(LARGE[:-5] + b"y" + LARGE[-4:])
    elif harm == "cut":
        (tmp_path / "content").write_bytes(LARGE[:-500])
    else:
        work.loaded.path = None
    verdict = await capture(directory, work)
    assert verdict.kind is Kind.CORRUPT and verdict.text
    assert work.results == {}
    assert names(directory) == []


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.", b"\r\n..", b""]), max_size=30))
def test_unstuffed_in_any_pieces(pieces: list[bytes]) -> None:
    """Block by block is the same as at once, wherever the blocks are cut."""
    assert b"".join(_unstuffed(pieces)) == unstuff(b"".join(pieces))


@given(st.lists(st.sampled_from([b"\r\n", b".", b"a"]), max_size=30))
def test_there_and_back(pieces: list[bytes]) -> None:
    """What was stuffed comes out as it went in."""
    content = b"".join(pieces) + b"\r\n"
    wire = stuff(content)
    assert b"".join(_unstuffed([wire[:5], wire[5:9], wire[9:]])) == content
