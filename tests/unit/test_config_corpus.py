"""Wrong configuration files: every problem is named with line, column, key and what to write instead.

A case is tests/fixtures/config/NAME.yaml with NAME.expected beside it: a line for each problem, in order,
"LINE:COLUMN KEY END", where KEY is "-" for the file as a whole and the message ends with END.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from relay.cli import check
from relay.config.load import load
from relay.config.problem import ConfigErrors

CASES = sorted((Path(__file__).parent.parent / "fixtures" / "config").glob("*.yaml"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_every_problem_is_named_at_its_place(file: Path) -> None:
    """All problems of the file, and no others, each with what to write instead."""
    with pytest.raises(ConfigErrors) as caught:
        load(file, {}, lambda: "relay.example.com")

    expected = [line.split(" ", 2) for line in file.with_suffix(".expected").read_text().splitlines()]
    found = [(f"{each.line}:{each.column}", each.key or "-", each.text) for each in caught.value.problems]
    assert [(place, key) for place, key, _ in expected] == [(place, key) for place, key, _ in found]
    for (_, _, end), (_, _, text) in zip(expected, found, strict=True):
        assert text.endswith(end), text


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_every_message_says_what_to_do(file: Path) -> None:
    """A message is one line and holds an instruction."""
    with pytest.raises(ConfigErrors) as caught:
        load(file, {}, lambda: "relay.example.com")
    for problem in caught.value.problems:
        assert any(word in problem.text for word in ("write", "remove", "name a", "no key needs")), (
            problem.text
        )
        assert str(problem).startswith(f"{file}:{problem.line}:{problem.column}: {problem.key}")
        assert "\n" not in str(problem)


def test_the_corpus_is_not_empty() -> None:
    """At least 40 files; a wrong path would make this whole module pass without testing."""
    assert len(CASES) >= 40


@pytest.mark.parametrize("file", CASES[::7], ids=lambda file: file.stem)
def test_check_prints_them_and_exits_78(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`relay check` prints one line for each problem on stderr, nothing on stdout, and returns EX_CONFIG."""
    assert check.run(argparse.Namespace(config=file, json=False)) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert len(file.with_suffix(".expected").read_text().splitlines()) == len(err.splitlines())
    assert err.startswith(f"{file}:")
