"""The READMEs are true where a program can tell: files exist, targets exist, the configuration loads."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from relay.cli.main import parser
from relay.config.load import load

ROOT = Path(__file__).resolve().parents[2]
OPERATORS = ROOT / "deploy/README.md"
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


def blocks() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", OPERATORS.read_text(), re.S | re.M)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split()[2])
def test_the_examples_for_operators_are_good(block: str, tmp_path: Path) -> None:
    """Each configuration of deploy/README.md loads as it stands; who logs in verifies whom he talks to."""
    (tmp_path / "relay.yaml").write_text(block)
    config = load(tmp_path / "relay.yaml", {})
    assert all(route.username and route.tls == "verify" for route in config.routes)


def runs() -> list[dict[str, str]]:
    """The variables of each `docker run` of deploy/README.md, as the shell makes them."""
    lines = re.findall(r"^ {4}docker run -d (.*?[^\\])$", OPERATORS.read_text(), re.S | re.M)
    words = [shlex.split(line.replace("\\\n", " ")) for line in lines]
    return [dict(word.split("=", 1) for before, word in pairwise(each) if before == "-e") for each in words]


def test_the_variables_of_a_container_are_good() -> None:
    """Environment-only configuration: reachable from outside, with and without a smarthost."""
    plain, smarthost = (load(None, variables) for variables in runs())
    for config in (plain, smarthost):
        assert config.listeners[0].address == "0.0.0.0:2525" and "172.16.0.0/12" in config.trusted_networks
    (route,) = smarthost.routes
    assert (route.name, route.via, route.tls) == ("smarthost", ("smtp.example.net:587",), "verify")
    assert route.password_file == Path("/run/secrets/smarthost") and not plain.routes


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
    """`relay x` in a page is understood by the command line."""
    for page, least in (("README.md", 6), ("deploy/README.md", 8)):
        lines = re.findall(r"^ {4}(?:\.venv/bin/)?relay (.*?)(?:  +#.*)?$", (ROOT / page).read_text(), re.M)
        assert len(lines) >= least
        for line in lines:
            assert parser().parse_args(line.split()).module
