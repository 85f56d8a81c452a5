"""The rules of the house, read from its sources: who may import whom, what must never stand in the tree.

Each rule is a sentence of the README's map. Imports are read with `ast`, also those inside functions and
those under TYPE_CHECKING: an arrow is an arrow. Every rule is also shown a wrong example, so that it
can fail.
"""

from __future__ import annotations

import ast
import queue
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
ENTRIES = {"relay.__main__", "relay.app"}  # may import what nobody else may
TOP = ("relay.cli", "relay.app", "relay.demo", "relay.__main__")
OS_DURABLE = {"fsync", "fdatasync", "replace", "rename", "renames", "unlink", "remove", "move", "rmtree"}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted import name, what it imports (absolute names) and its tree."""

    name: str
    tree: ast.Module
    lines: int = 0

    @cached_property
    def imports(self) -> set[str]:
        """Every module named by an import statement; `from a import b` gives both a and a.b."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        return found

    @property
    def relative(self) -> bool:
        return any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(self.tree))


def source(name: str, text: str) -> Module:
    return Module(name, ast.parse(text), text.count("\n"))


@cache
def modules() -> tuple[Module, ...]:
    """All of relay, mailqueue and the tests, read once."""
    return tuple(read_all())


def read_all() -> Iterator[Module]:
    for root, package in ((ROOT, "relay"), (ROOT / "queue", "mailqueue"), (ROOT, "tests")):
        for path in sorted(root.glob(f"{package}/**/*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            yield source(name, path.read_text())


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def arrows(module: Module, *targets: str) -> list[str]:
    return [f"{module.name} imports {name}" for name in sorted(module.imports) if within(name, *targets)]


def queue_knows_no_relay(module: Module) -> list[str]:
    return arrows(module, "relay") if within(module.name, "mailqueue") else []


def queue_is_standard_library_only(module: Module) -> list[str]:
    if not within(module.name, "mailqueue"):
        return []
    allowed = sys.stdlib_module_names | {"mailqueue"}
    return [f"{module.name} imports {name}" for name in module.imports if name.split(".")[0] not in allowed]


def front_and_delivery_do_not_meet(module: Module) -> list[str]:
    if within(module.name, "relay.front"):
        return arrows(module, "relay.delivery")
    return arrows(module, "relay.front") if within(module.name, "relay.delivery") else []


def nothing_imports_the_top(module: Module) -> list[str]:
    """cli and __main__ start things (app, demo, cli); demo runs an app. Nobody else reaches up."""
    if within(module.name, *ENTRIES, "relay.cli", "tests"):
        return []
    if within(module.name, "relay.demo"):
        return arrows(module, "relay.cli", "relay.__main__")
    return arrows(module, *TOP)


def only_durable_makes_durable(module: Module) -> list[str]:
    """Only mailqueue.durable syncs, renames and removes files."""
    if not within(module.name, "mailqueue") or module.name == "mailqueue.durable":
        return []
    return [f"{module.name}:{call.lineno}: {ast.unparse(call.func)}" for call in durable_calls(module.tree)]


def durable_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of os.fsync, os.replace and so on, and of pathlib's unlink, rename and replace.

    Path.replace takes one argument, str.replace at least two: that tells them apart.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        verb = node.func.attr
        if isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil"):
            if verb in OS_DURABLE:
                yield node
        elif verb in ("unlink", "rename") or (
            verb == "replace" and len(node.args) == 1 and not node.keywords
        ):
            yield node


def names_say_something(module: Module) -> list[str]:
    return [module.name] if VAGUE & set(module.name.split(".")) else []


def files_are_short(module: Module) -> list[str]:
    return [f"{module.name}: {module.lines} lines"] if module.lines > LONGEST_FILE else []


def functions_are_short(module: Module) -> list[str]:
    return [
        f"{module.name}:{node.lineno}: {node.name} has {length} lines"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]


def imports_are_absolute(module: Module) -> list[str]:
    """Relative imports would hide from the other rules."""
    return [module.name] if module.relative else []


Rule = Callable[[Module], list[str]]

# each rule with a module that breaks it, and one that is close but right
RULES: dict[Rule, tuple[Module, Module]] = {
    queue_knows_no_relay: (
        source("mailqueue.queue", "def f():\n    from relay import wire\n"),
        source("relay.app", "import mailqueue\nfrom relay import wire\n"),
    ),
    queue_is_standard_library_only: (
        source("mailqueue.store", "import sqlite3, prometheus_client\n"),
        source("mailqueue.store", "import sqlite3\nfrom mailqueue.entry import Entry\n"),
    ),
    front_and_delivery_do_not_meet: (
        source("relay.delivery.lane", "from relay import front\n"),
        source("relay.delivery.lane", "from relay.delivery import verdict\n"),
    ),
    nothing_imports_the_top: (
        source("relay.admin.http", "import relay.app\n"),
        source("relay.demo.story", "from relay.app import App\n"),
    ),
    only_durable_makes_durable: (
        source("mailqueue.files", "path.replace(other)\n"),
        source("mailqueue.files", "text.replace('a', 'b')\n"),
    ),
    names_say_something: (source("relay.front.utils", ""), source("relay.front.path", "")),
    files_are_short: (source("relay.long", "\n" * 401), source("relay.long", "\n" * 400)),
    functions_are_short: (
        source("relay.long", "def f():\n" + "    pass\n" * 60),
        source("relay.long", "def f():\n" + "    pass\n" * 59),
    ),
    imports_are_absolute: (
        source("relay.front.session", "from .. import delivery\n"),
        source("relay.front.session", "from relay.front import path\n"),
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_sources_keep(rule: Rule) -> None:
    """Every module keeps the rule."""
    broken = [line for module in modules() for line in rule(module)]
    assert not broken


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_can_fail(rule: Rule) -> None:
    """The rule sees its wrong example, and not the right one beside it."""
    wrong, right = RULES[rule]
    assert rule(wrong)
    assert not rule(right)


def test_all_of_the_house_is_read() -> None:
    """The rules above saw the sources at all."""
    names = {module.name for module in modules()}
    assert {"relay", "relay.front", "relay.delivery", "mailqueue.entry", "tests.unit.test_house"} <= names


@pytest.mark.parametrize("name", ["queue/__init__.py", "tests/queue/__init__.py", "systemd/__init__.py"])
def test_no_package_hides_another(name: str) -> None:
    """queue/ with an __init__.py would hide the standard library's queue; systemd/ the systemd bindings."""
    assert not (ROOT / name).exists()


def test_queue_is_the_standard_library() -> None:
    """`import queue` gives the standard library's, though the project has a folder of that name."""
    assert Path(sysconfig.get_paths()["stdlib"]).resolve() in Path(queue.__file__).resolve().parents
    assert hasattr(queue, "SimpleQueue")


def addresses(lines: Iterable[str]) -> list[str]:
    """Lines of a lock file that say where a package comes from: a URL, a path, an option of pip's."""
    foreign = re.compile(
        r"://|(^|\s)(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b| @ |(^|\s)/"
    )
    return [line for line in lines if foreign.search(line)]


@pytest.mark.parametrize("name", ["deploy/requirements.lock", "tests/requirements.lock"])
def test_lock_files_name_no_address(name: str) -> None:
    """Every package is pinned with its hashes, and no line says where it comes from."""
    lines = (ROOT / name).read_text().splitlines()
    pins = [line for line in lines if re.match(r"[a-z0-9]", line)]
    assert pins
    assert all(re.match(r"[a-z0-9._-]+==\S+ (; .+ )?\\$", line) for line in pins)
    assert not addresses(lines)


def test_an_address_in_a_lock_file_is_seen() -> None:
    """The search above finds each way to name a place."""
    lines = ["--index-url https://example.com", "--find-links wheels", "a @ file:///x", "-f /opt", "a==1 \\"]
    assert lines[:4] == addresses(lines)


def test_both_lock_files_agree() -> None:
    """The tests run with exactly the versions that are deployed."""
    runtime, developer = (
        set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.M))
        for name in ("deploy/requirements.lock", "tests/requirements.lock")
    )
    assert runtime <= developer


def test_ci_installs_what_the_tests_require() -> None:
    """Every Debian package that a test asks for is one that .ci/run installs, and the other way round."""
    blocks = re.findall(r"^(?:packages|unpacked)=\((.*?)^\)", (ROOT / ".ci/run").read_text(), re.S | re.M)
    assert len(blocks) == 2
    installed = set(re.findall(r"^ +([a-z0-9.+-]+)", "".join(blocks), re.M))
    sources = "".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")))
    assert installed == set(re.findall(r'require_(?:tool|module)\("[\w.:/ -]+", "([a-z0-9.+-]+)"\)', sources))
