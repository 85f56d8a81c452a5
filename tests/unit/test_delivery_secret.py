"""Secrets and certificates in files: read again when they change, never shown, clear words when they fail."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
from fakes.certificates import Authority, authority
from fakes.exposure import open_machine

from relay.delivery.secret import MOST, NoSecret, Secrets, stamp
from relay.delivery.trust import NoTrust, Trust


@pytest.mark.parametrize(
    ("octets", "secret"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b" with blanks \n# and a second line\n", " with blanks "),
        ("gr\u00fc\u00df\u00df".encode(), "gr\u00fc\u00df\u00df"),
        (b"x" * MOST, "x" * MOST),
    ],
)
def test_the_first_line(tmp_path: Path, octets: bytes, secret: str) -> None:
    """Without its line end and nothing else."""
    file = tmp_path / "secret"
    file.write_bytes(octets)
    assert Secrets(print).read(file) == secret


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "its first line is empty"),
        (b"\nsecret", "its first line is empty"),
        (b"x" * (MOST + 1), f"its first line is over {MOST} octets"),
        (b"\xff\xfe", "its first line is not text in UTF-8"),
        (b"a\0b", "its first line is not text in UTF-8"),
        (b"a\rb\n", "its first line is not text in UTF-8"),
    ],
)
def test_no_secret(tmp_path: Path, octets: bytes, reason: str) -> None:
    """The words name the file, not what is in it."""
    file = tmp_path / "secret"
    file.write_bytes(octets)
    with pytest.raises(NoSecret) as caught:
        Secrets(print).read(file)
    assert str(caught.value) == f"{file}: {reason}"


def test_what_is_no_file(tmp_path: Path) -> None:
    """A directory, nothing, and a pipe that nobody writes to: no waiting."""
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("", "is a directory"),
        ("none", "no such file or directory"),
        ("pipe", "not a file"),
    ):
        with pytest.raises(NoSecret, match=reason):
            Secrets(print).read(tmp_path / name)


def test_it_is_read_again_when_it_has_changed_and_only_then(tmp_path: Path) -> None:
    """Time, size or inode; links followed."""
    file, secrets = tmp_path / "secret", Secrets(print)
    file.write_text("one")
    assert secrets.read(file) == "one"
    times = file.stat()
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same time, size and inode
    assert secrets.read(file) == "one"
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert secrets.read(file) == "two"
    (tmp_path / "new").write_text("six")
    os.utime(tmp_path / "new", ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    (tmp_path / "new").replace(file)
    assert secrets.read(file) == "six"
    file.unlink()
    with pytest.raises(NoSecret):
        secrets.read(file)
    assert stamp(file) is None
    file.write_text("back")
    assert secrets.read(file) == "back"


def test_a_file_that_everybody_may_read_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, no fault."""
    open_machine(monkeypatch)
    told: list[str] = []
    file, secrets = tmp_path / "secret", Secrets(told.append)
    file.write_text("one")
    file.chmod(0o640)
    assert (secrets.read(file), told) == ("one", [])
    for text in ("three", "fourth"):
        file.write_text(text)
        file.chmod(0o644)
        assert secrets.read(file) == text
    assert told == [str(file)]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    file, secrets = tmp_path / "secret", Secrets(print)
    file.write_text("correct horse")
    secrets.read(file)
    assert "correct" not in repr(secrets)


# --- ca_file


def test_a_ca_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """Kept as long as it is the same; nobody else is trusted."""
    trust, file = Trust(), authority().write(tmp_path)
    first = trust.context(True, file)
    assert trust.context(True, file) is first
    assert len(first.get_ca_certs()) == 1
    assert first.verify_mode is ssl.CERT_REQUIRED and first.check_hostname
    assert first.minimum_version >= ssl.TLSVersion.TLSv1_2
    before = first.get_ca_certs()
    Authority().write(tmp_path)
    second = trust.context(True, file)
    assert second is not first and second.get_ca_certs() != before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no such file or directory"),
        ("", "no certificates in PEM form in it"),
        ("no PEM", "no certificates in PEM form in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "no certificates in PEM form in it",
        ),
    ],
)
def test_a_ca_file_that_cannot_be_used(tmp_path: Path, text: str | None, reason: str) -> None:
    """Clear words, and it is used as soon as it is mended."""
    trust, file = Trust(), tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(NoTrust) as caught:
        trust.context(True, file)
    assert str(caught.value).startswith(f"ca_file {file}: {reason}")
    authority().write(tmp_path)
    assert trust.context(True, file).get_ca_certs()


def test_without_verification_no_ca_file_is_read(tmp_path: Path) -> None:
    """It would change nothing."""
    context = Trust().context(False, tmp_path / "none")
    assert context.verify_mode is ssl.CERT_NONE
