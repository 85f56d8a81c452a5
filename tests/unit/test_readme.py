"""The READMEs are true where a program can tell: files exist, targets exist, the configuration loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.cli.main import parser
from relay.config.load import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "relay/README.md", "queue/README.md", "tests/README.md", "deploy/README.md")
NAMED = re.compile(r"`((?:[\w.]+/)*[\w.]+\.(?:py|md|yaml|lock))`|\]\(([^):#]+)\)|`((?:[\w.]+/)+)`")
NOT_OURS = {"relay.yaml", "__init__.py", "content/"}  # the readers', what must not be, the spool's


def named(page: str) -> set[str]:
    """The files and folders that a page names in backticks or links to."""
    found = NAMED.findall((ROOT / page).read_text())
    return {next(filter(None, groups)) for groups in found} - NOT_OURS


def stands(page: str, name: str) -> bool:
    """A name may be relative to the page, to the root, or be that of one file below the page's folder."""
    folder = (ROOT / page).parent
    return (folder / name).exists() or (ROOT / name).exists() or any(folder.rglob(f"{name}"))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_exists(page: str) -> None:
    """Whoever follows a page finds what it speaks of."""
    assert named(page)
    assert [name for name in sorted(named(page)) if not stands(page, name)] == []


def test_a_missing_file_is_seen() -> None:
    """The search can fail."""
    assert NAMED.findall("see `front/gone.py`, [x](gone.md) and `gone/`") == [
        ("front/gone.py", "", ""),
        ("", "gone.md", ""),
        ("", "", "gone/"),
    ]
    assert not stands("relay/README.md", "front/gone.py")


def test_the_first_configuration_is_good(tmp_path: Path) -> None:
    """What a newcomer copies from the README loads as it stands."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    file = tmp_path / "relay.yaml"
    file.write_text(block)
    assert [route.name for route in load(file, {}).routes] == ["partner"]


def test_every_make_target_exists() -> None:
    """`make x` in a page is a target with a line in `make help`."""
    told = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^ {4})make (\w+)", (ROOT / page).read_text(), re.M)
    }
    assert {"demo", "test"} <= told
    assert told <= set(re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.M))


def test_every_command_exists() -> None:
    """`relay x` in the README is understood by the command line."""
    lines = re.findall(
        r"^ {4}(?:\.venv/bin/)?relay (.*?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.M
    )
    assert len(lines) >= 6
    for line in lines:
        assert parser().parse_args(line.split()).module
