"""`relay user`: passwords from a terminal or standard input, exit codes, what is shown and what never."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import stat
import sys
import time
from pathlib import Path

import pytest
from fakes.exposure import open_machine

from relay.cli import user as command
from relay.cli.main import main
from relay.users import password
from relay.users.password import Cost
from relay.users.reading import read_users

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take milliseconds."""
    monkeypatch.setattr(password, "DEFAULT", Cost(ln=10))


class Shell:
    """relay user ... with one line on standard input."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]):
        self.file = file
        self._patch = monkeypatch
        self._output = output
        self.out = self.err = ""

    def __call__(self, *arguments: str, line: bytes = b"") -> int:
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line), "ascii"))
        code = main(["user", *arguments, "--file", str(self.file)])
        self.out, self.err = self._output.readouterr()
        return code

    def users(self) -> dict[str, tuple[str, ...]]:
        return {user.name: user.patterns for user in read_users(self.file).listing.users.values()}

    def is_password(self, name: str, word: str) -> bool:
        return read_users(self.file).listing.users[name].hash.matches(word)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "users", monkeypatch, capsys)


def test_add_and_use(shell: Shell) -> None:
    """One line of standard input is the password, as UTF-8, without its line end."""
    assert shell("add", "anna", line="p\u00e4ssword 1\r\nmore\n".encode()) == 0
    assert "anna: added" in shell.out and shell.err == ""
    assert shell.is_password("anna", "p\u00e4ssword 1")
    assert shell.users() == {"anna": ()}
    assert stat.S_IMODE(shell.file.stat().st_mode) == 0o600
    assert "ssword" not in shell.file.read_text() + shell.out


def test_salts_are_chance(shell: Shell) -> None:
    """The same password twice is not the same line."""
    shell("add", "anna", line=b"password1\n")
    shell("add", "bert", line=b"password1\n")
    one, other = (line.partition(":")[2] for line in shell.file.read_text().split())
    assert one != other


def test_an_old_user_is_not_changed_by_mistake(shell: Shell) -> None:
    """--replace asks for it; senders stay unless they are given."""
    shell("add", "anna", "--sender", "@b.example,<>", "--sender", "ci@c.example", line=b"password1\n")
    assert shell("add", "anna", line=b"password2\n") == 65
    assert "--replace" in shell.err and shell.is_password("anna", "password1")
    assert shell("add", "anna", "--replace", line=b"password2\n") == 0
    assert "anna: changed" in shell.out and shell.is_password("anna", "password2")
    assert shell.users() == {"anna": ("@b.example", "<>", "ci@c.example")}
    assert shell("add", "anna", "--replace", "--sender", "*", line=b"password2\n") == 0
    assert shell.users() == {"anna": ()}
    assert shell("add", "bert", "--replace", line=b"password2\n") == 0
    assert "bert: added" in shell.out


def test_a_user_on_a_wrong_line_is_there(shell: Shell) -> None:
    """It can be replaced and removed, not doubled."""
    shell.file.write_text("anna:clear\n")
    assert shell("add", "anna", line=b"password1\n") == 65
    assert shell("add", "anna", "--replace", line=b"password1\n") == 0
    assert shell.users() == {"anna": ()} and "clear" not in shell.file.read_text()


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"\n", "a password has"),
        (b"", "a password has"),
        (b"pass\x07word\n", "a password has"),
        (b"x" * 5000 + b"\n", "a password has"),
        (b"p\xe4ssword\n", "not UTF-8"),
    ],
)
def test_what_is_no_password(shell: Shell, line: bytes, text: str) -> None:
    """EX_DATAERR, nothing changed, nothing of it shown."""
    assert shell("add", "anna", line=line) == 65
    assert text in shell.err and "nothing was changed" in shell.err
    assert "pass" not in shell.err.replace("password has", "").replace("the password is", "")
    assert not shell.file.exists()


def test_a_short_password_is_warned_of(shell: Shell) -> None:
    """It is taken all the same."""
    assert shell("add", "anna", line=b"short\n") == 0
    assert "easily guessed" in shell.err and shell.is_password("anna", "short")


@pytest.mark.parametrize("name", ["", "a:b", "a b", "#a", "x" * 300, "a\x1b[2J"])
def test_what_is_no_name(shell: Shell, name: str) -> None:
    """EX_USAGE; what cannot be printed is escaped."""
    assert shell("add", name, line=b"password1\n") == 64
    assert "\x1b" not in shell.err


def test_what_is_no_sender(shell: Shell) -> None:
    """EX_USAGE before a password is asked for."""
    assert shell("add", "anna", "--sender", "a*@b.example", line=b"password1\n") == 64
    assert "--sender" in shell.err and not shell.file.exists()


def test_remove(shell: Shell) -> None:
    """66 when there is none; comments stay."""
    assert shell("remove", "anna") == 66
    shell("add", "anna", line=b"password1\n")
    shell.file.write_text("# who\n" + shell.file.read_text())
    assert shell("remove", "bert") == 66
    assert shell("remove", "anna") == 0
    assert shell.file.read_text() == "# who\n"


def test_list(shell: Shell) -> None:
    """For people and for programs; hashes are in neither."""
    assert shell("list") == 66
    shell("add", "anna", "--sender", "@b.example", line=b"password1\n")
    shell("add", "bert", line=b"password1\n")
    assert shell("list") == 0
    assert shell.out == "anna  @b.example\nbert  any sender\n"
    assert shell("list", "--json") == 0
    assert [json.loads(line) for line in shell.out.splitlines()] == [
        {"name": "anna", "senders": ["@b.example"]},
        {"name": "bert", "senders": None},
    ]


def test_check_the_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """65 with the line of each flaw; a file for everybody is warned of."""
    open_machine(monkeypatch)
    shell("add", "anna", line=b"password1\n")
    assert shell("check") == 0
    shell.file.write_text(shell.file.read_text() + "\nbert\n")
    shell.file.chmod(0o644)
    assert shell("check") == 65
    assert (
        f"{shell.file}:3: " in shell.err and f"everybody on this machine can read {shell.file}" in shell.err
    )
    assert "1 may log in, 1 wrong line\n" in shell.out


def test_a_file_that_is_not_there(shell: Shell) -> None:
    """What makes it is named."""
    assert shell("list") == 66
    assert (
        f"{shell.file}: cannot be read: no such file or directory; relay user add NAME makes it" in shell.err
    )


def test_check_a_password(shell: Shell) -> None:
    """77 when it is another."""
    shell("add", "anna", line=b"password1\n")
    assert shell("check", "anna", line=b"password1\n") == 0
    assert shell("check", "anna", line=b"password2\n") == 77
    assert shell("check", "bert", line=b"password1\n") == 66


def test_the_file_is_that_of_the_configuration(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """-c, or 78 where it names none."""
    config = tmp_path / "relay.yaml"
    config.write_text(f"hostname: relay.example.com\nusers_file: {shell.file}\n")
    shell("add", "anna", line=b"password1\n")
    assert main(["user", "list", "-c", str(config)]) == 0
    assert "anna" in capsys.readouterr().out
    config.write_text("hostname: relay.example.com\n")
    assert main(["user", "list", "-c", str(config)]) == 78
    assert "users_file" in capsys.readouterr().err


def test_relay_check_reads_the_file(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings: it may be another machine's configuration."""
    config = tmp_path / "relay.yaml"
    config.write_text(f"hostname: relay.example.com\nusers_file: {shell.file}\n")
    assert main(["check", "-c", str(config)]) == 0
    assert "nobody can log in" in capsys.readouterr().out
    shell.file.write_text("anna:clear\n")
    assert main(["check", "--json", "-c", str(config)]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any(f"{shell.file}:1: " in text for text in warnings)
    assert any("relay user add" in text for text in warnings)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_file_made_by_root_can_be_read_by_the_relay(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group that owns the spool; nobody else."""
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, 12345, 23456)
    config = tmp_path / "relay.yaml"
    config.write_text(f"hostname: relay.example.com\nusers_file: {shell.file}\nspool: {spool}\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"password1\n")))
    assert main(["user", "add", "anna", "-c", str(config)]) == 0
    status = shell.file.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, 23456)


def typed(arguments: list[str], answers: list[bytes]) -> tuple[int, bytes]:
    """The exit code and the screen of a command on a terminal, where each answer is typed at its prompt."""
    pid, screen = pty.fork()
    if not pid:
        os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'queue'}"
        os.execv(sys.executable, [sys.executable, "-m", "relay", *arguments])
    seen, waiting, deadline = b"", list(answers), time.monotonic() + 20
    try:
        while time.monotonic() < deadline:
            if select.select([screen], [], [], 1.0)[0]:
                try:
                    seen += os.read(screen, 4096)
                except OSError:  # its end
                    break
            if waiting and seen.count(b": ") > len(answers) - len(waiting):
                os.write(screen, waiting.pop(0) + b"\n")
        else:
            os.kill(pid, signal.SIGKILL)
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(screen)
    return code, seen


def test_on_a_terminal(shell: Shell) -> None:
    """Asked for twice, without echo; two that differ change nothing."""
    add = ["user", "add", "anna", "--file", str(shell.file)]
    code, screen = typed(add, [b"password1", b"password2"])
    assert (code, shell.file.exists()) == (65, False)
    assert b"not the same" in screen
    code, screen = typed(add, [b"password1", b"password1"])
    assert code == 0 and b"anna: added" in screen
    assert b"password1" not in screen and shell.is_password("anna", "password1")


def test_a_password_is_no_argument() -> None:
    """Everybody on a machine sees arguments."""
    with pytest.raises(SystemExit):
        main(["user", "add", "anna", "--password", "x"])
    with pytest.raises(SystemExit):
        main(["user", "add", "anna", "password1"])


def test_the_password_limit_fits_a_line_of_auth() -> None:
    """The longest name and password pass in one exchange."""
    from relay.front.auth import AUTH_LINE_LIMIT
    from relay.users.listing import NAME_LIMIT

    octets = NAME_LIMIT + 2 + command.PASSWORD_LIMIT
    assert (octets + 2) // 3 * 4 + 2 <= AUTH_LINE_LIMIT
