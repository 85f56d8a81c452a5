"""Changes of users_file: the rest stays as it was, the file is replaced whole, with its owner and mode."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from relay.users.editing import Owner, change, name_of, with_line, without

TEXT = "# services\nanna:A\n\n  bert:B:@b.example\n# of the team\ncarl:geheim\n"


def test_a_line_takes_the_place_of_the_old_one() -> None:
    """Comments, blank lines and order stay."""
    assert with_line(TEXT, "bert", "bert:NEW") == TEXT.replace("  bert:B:@b.example", "bert:NEW")


def test_a_new_line_comes_last() -> None:
    """Also where the last line had no end, and in an empty file."""
    assert with_line(TEXT, "dora", "dora:D") == TEXT + "dora:D\n"
    assert with_line("anna:A", "dora", "dora:D") == "anna:A\ndora:D\n"
    assert with_line("", "dora", "dora:D") == "dora:D\n"


def test_every_line_of_a_name_goes() -> None:
    """A second line of the same user would come to life when the first is gone; a wrong one is one too."""
    twice = TEXT + "anna:again\n"
    assert without(twice, "anna") == TEXT.replace("anna:A\n", "")
    assert with_line(twice, "anna", "anna:NEW") == TEXT.replace("anna:A", "anna:NEW")
    assert without(TEXT, "carl") == TEXT.replace("carl:geheim\n", "")
    assert without(TEXT, "nobody") == TEXT


@pytest.mark.parametrize(
    ("line", "name"),
    [("anna:x", "anna"), (" anna :x", "anna"), ("#anna:x", None), ("anna", None), ("", None), (":x", None)],
)
def test_whose_line_it_is(line: str, name: str | None) -> None:
    """None: nobody's."""
    assert name_of(line) == name


def test_a_new_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Or its group's as well, where that is said; whatever the umask is."""
    for name, owner, mode in (("a", Owner(), 0o600), ("b", Owner(0o640, os.getgid()), 0o640)):
        change(tmp_path / name, lambda _: "x\n", owner)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
        assert (tmp_path / name).read_text() == "x\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_an_old_file_keeps_its_owner_and_mode(tmp_path: Path) -> None:
    """And a link stays a link."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text(TEXT)
    real.chmod(0o644)
    if not os.geteuid():
        os.chown(real, 12345, 23456)
    before = real.stat()
    link.symlink_to(real)
    change(link, lambda text: text + "dora:D\n", Owner())
    after = real.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino, "replaced, not written over"
    assert link.is_symlink() and link.read_text() == TEXT + "dora:D\n"


def test_without_a_change_the_file_stays(tmp_path: Path) -> None:
    """Nobody need read it again."""
    path = tmp_path / "users"
    path.write_text(TEXT)
    before = path.stat()
    change(path, lambda text: text, Owner())
    assert path.stat().st_ino == before.st_ino


def test_an_edit_that_fails_changes_nothing(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    path = tmp_path / "users"
    path.write_text(TEXT)

    def broken(_: str) -> str:
        raise KeyError("anna")

    with pytest.raises(KeyError):
        change(path, broken, Owner())
    with pytest.raises(UnicodeEncodeError):
        change(path, lambda _: "\udc80", Owner())
    assert path.read_text() == TEXT and list(tmp_path.iterdir()) == [path]


def test_what_is_not_utf8_is_left_alone(tmp_path: Path) -> None:
    """It is the wrong file, or somebody's work."""
    path = tmp_path / "users"
    path.write_bytes(b"b\xe4r:x\n")
    with pytest.raises(UnicodeDecodeError):
        change(path, lambda text: text + "x\n", Owner())
    assert path.read_bytes() == b"b\xe4r:x\n"


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    """Two operators, or a script in a loop."""
    path = tmp_path / "users"
    threads = [
        threading.Thread(target=change, args=(path, lambda text, n=n: with_line(text, n, f"{n}:x"), Owner()))
        for n in map(str, range(20))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(path.read_text().split(), key=lambda line: int(line[:-2])) == [f"{n}:x" for n in range(20)]
