"""relay.yaml and the environment -> Config, or everything that is wrong with them at once."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from relay.config import advice, environment, syntax
from relay.config.address import check_hostname
from relay.config.checks import findings
from relay.config.document import Node, read
from relay.config.logins import located
from relay.config.model import Config
from relay.config.problem import ConfigErrors, Path, Problem, dotted
from relay.config.tree import Tree, unshared

NO_DOMAIN = ".localdomain"  # what a host name gets that has no domain


def load(
    path: FilePath | None, environ: Mapping[str, str], fqdn: Callable[[], str] = socket.getfqdn
) -> Config:
    """The configuration of `path` (None: defaults) with the RELAY__ variables of `environ` over it.

    fqdn: asked for the machine's name when `hostname` is not given. ConfigErrors: all that is wrong.
    """
    root, problems = tree_of(path)
    tree_root = unshared(root)
    problems += environment.apply(tree_root, environ)
    tree = Tree(tree_root, str(path) if path else "defaults")
    config = _validated(tree, problems, environ)
    if problems:
        raise ConfigErrors(problems)
    return config if config.hostname else config.model_copy(update={"hostname": own_name(fqdn())})


def tree_of(path: FilePath | None) -> tuple[Node, list[Problem]]:
    """The file's tree and its flaws; ConfigErrors when it cannot be read at all."""
    if path is None:
        return Node({}), []
    file = str(path)
    try:
        root, flaws = read(syntax.decode(_octets(path)))
    except syntax.Unreadable as error:
        raise ConfigErrors([Problem(file, error.line, error.column, "", error.text)]) from None
    if root is None:
        return Node({}), []
    problems = [Problem(file, flaw.line, flaw.column, dotted(flaw.path), flaw.text) for flaw in flaws]
    if not isinstance(root.value, dict):
        text = "the file holds no keys; write key: value lines, such as hostname: relay.example.com"
        raise ConfigErrors([*problems, Problem(file, root.line, root.column, "", text)])
    return root, problems


def _octets(path: FilePath) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(syntax.MAX_OCTETS + 1)
    except FileNotFoundError:
        raise syntax.Unreadable(0, 0, "there is no such file; write its path after -c") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise syntax.Unreadable(0, 0, f"cannot be read: {reason}; name a readable file after -c") from None


def _validated(tree: Tree, problems: list[Problem], environ: Mapping[str, str]) -> Config:
    """The model; problems are added. With problems, what comes back lacks the keys that are wrong."""
    data, empty = tree.data()
    problems += [tree.problem(path, advice.no_value(path)) for path in empty]
    wrong = list(empty)
    try:
        config = _model(data)
    except ValidationError as errors:
        found = advice.explain(errors, tree.raw)
        problems += [tree.problem(each.path, each.text) for each in found]
        config = _partial(tree, [_key(each.path) for each in found])
        wrong += [each.path[:-1] or each.path if each.unknown else _key(each.path) for each in found]
    config = located(config, environ)
    problems += [
        tree.problem(finding.path, finding.text, finding.also)
        for finding in findings(config)
        if not any(_touches(path, bad) for path in (finding.path, *finding.also) for bad in wrong)
    ]
    return config


def _model(data: dict[str, Any]) -> Config:
    return Config.model_validate(data, context={"written": True}, by_alias=True, by_name=False)


def _partial(tree: Tree, wrong: list[Path]) -> Config:
    """The model without the wrong keys, so that what else is wrong is found in the same run."""
    try:
        return _model(tree.data(wrong)[0])
    except ValidationError:
        return Config()  # nothing more can be said


def _key(path: Path) -> Path:
    """The path without places in a list at its end: an item is left out with its list, never alone."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _touches(path: Path, wrong: Path) -> bool:
    """True when one of the two lies in the other."""
    shorter = min(len(path), len(wrong))
    return path[:shorter] == wrong[:shorter]


def own_name(found: str) -> str:
    """The machine's name as a full host name; ".localdomain" is added to one without a domain."""
    name = found.strip().rstrip(".").lower()
    try:
        if name and not name.startswith("localhost"):
            return check_hostname(name)
    except ValueError:
        name = name.partition(".")[0]
    first = re.sub(r"[^a-z0-9-]", "-", name.partition(".")[0]).strip("-")[:63].strip("-")
    return (first if first and first != "localhost" else "relay") + NO_DOMAIN
