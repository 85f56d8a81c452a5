"""The command line as such: arguments, exit codes, what is imported."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailqueue.recover import explain
from relay.cli.denied import denied, user_name
from relay.cli.main import PLACES, find_config, main, parser
from relay.cli.run import refused


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["queue"],
        ["queue", "dance"],
        ["queue", "show"],
        ["queue", "list", "--state", "gone"],
        ["queue", "list", "--older-than", "5"],
        ["explain"],
        ["run", "--nonsense"],
    ],
)
def test_wrong_arguments_are_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """EX_USAGE, and a line that says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 64
    assert "relay" in capsys.readouterr().err


def test_help_and_version_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0."""
    for arguments in (["--version"], ["queue", "list", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("relay 0.")


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Each command and each of its actions."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield each
                yield from commands(each)


def test_each_command_says_what_it_does() -> None:
    """A sentence of its own, and a word on every argument."""
    found = list(commands(parser()))
    assert len(found) == 20
    assert [each.prog for each in found if (each.description or "")[-1:] not in (".", "?")] == []
    silent = [
        (each.prog, action.dest)
        for each in found
        for action in each._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


def test_ages_have_units() -> None:
    """As in the configuration."""
    args = parser().parse_args(["queue", "list", "--older-than", "1h30m", "--younger-than", "2d"])
    assert (args.older_than, args.younger_than) == (5400.0, 172_800.0)


def test_the_configuration_stands_before_or_after(tmp_path: Path) -> None:
    """-c may be given to relay or to the command."""
    for arguments in (
        ["-c", "x.yaml", "queue", "list"],
        ["queue", "list", "-c", "x.yaml"],
        ["run", "-c", "x.yaml"],
    ):
        assert parser().parse_args(arguments).config == Path("x.yaml")
    assert parser().parse_args(["run"]).config is None


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-c, then RELAY_CONFIG, then the known places, then none."""
    monkeypatch.setattr("relay.cli.main.PLACES", (tmp_path / "one.yaml", tmp_path / "two.yaml"))
    assert find_config(None, {}) is None
    (tmp_path / "two.yaml").touch()
    assert find_config(None, {}) == tmp_path / "two.yaml"
    assert find_config(None, {"RELAY_CONFIG": "env.yaml"}) == Path("env.yaml")
    assert find_config(Path("given.yaml"), {"RELAY_CONFIG": "env.yaml"}) == Path("given.yaml")
    assert PLACES[0] == Path("/etc/relay/relay.yaml")


def test_a_wrong_configuration_ends_with_its_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EX_CONFIG, each error on its line."""
    file = tmp_path / "relay.yaml"
    file.write_text("spoool: /x\n")
    assert main(["queue", "list", "-c", str(file)]) == 78
    assert f"{file}:1:1: spoool" in capsys.readouterr().err


def test_without_a_spool_there_is_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One clear line; nothing is created."""
    for place in (tmp_path / "none", tmp_path):
        assert main(["queue", "list", "--spool", str(place)]) == 66
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"relay: there is no spool at {place}: ") and "-c FILE" in line
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_ask_is_told_whom_to_be(tmp_path: Path) -> None:
    """The owner by name, where there is one."""
    trouble = denied(tmp_path)
    assert (
        str(trouble) == f"{tmp_path} belongs to {user_name(os.geteuid())}: run this as that user or as root"
    )
    assert trouble.code == denied(tmp_path / "none").code == 77
    assert [user_name(0), user_name(4_000_000_000)] == ["user root", "user id 4000000000"]


@pytest.mark.parametrize(
    ("user", "reason", "told"),
    [
        (0, PermissionError(13, "Permission denied"), False),
        (1000, PermissionError(13, "Permission denied"), True),
        (1000, NotADirectoryError(20, "Not a directory"), False),
        (1000, sqlite3.OperationalError("disk I/O error"), False),
    ],
)
def test_a_spool_that_cannot_be_used(
    user: int,
    reason: Exception,
    told: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`relay run` of a plain user without a configuration meets the default spool: 73, and what to do. To be
    somebody else mends no disk."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    error = explain(reason, Path("/x"))
    error.__cause__ = reason
    assert refused(error) == 73
    text = capsys.readouterr().err
    assert text.startswith("relay: the spool /x cannot be used") and text.count("\n") == 1
    assert ("give this one a directory of its own as spool:" in text) is told


IMPORTS = """
import json, sys
from relay.cli.denied import denied, user_name
from relay.cli.main import main
code = main(["queue", "list", "--spool", sys.argv[1]])
print(json.dumps([code, sorted(sys.modules)]))
"""


def test_asking_the_daemon_imports_little(tmp_path: Path) -> None:
    """`relay queue list` starts quickly: none of the heavy modules is loaded to ask a running relay."""
    import socket
    import threading

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control"))
        server.listen()

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b'{"end": true, "count": 0}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        thread.join(10)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    heavy = {
        "pydantic",
        "aiohttp",
        "asyncio",
        "prometheus_client",
        "yaml",
        "dns",
        "sqlite3",
        "rich",
        "logging",
    }
    assert code == 0
    assert heavy & set(modules) == set()
