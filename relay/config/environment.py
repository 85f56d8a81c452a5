"""RELAY__SECTION__KEY=value: the environment over the file.

Two underscores separate the parts of the path; a number is the place in a list, counted from 0
(RELAY__ROUTES__0__VIA). Values are read like plain scalars of the file, or as YAML when they are [...] or
{...}; secrets are text as they stand. The environment wins over the file, deeper paths over shallower ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.config import schema
from relay.config.document import Node, plain_scalar, read
from relay.config.problem import Path, Problem, dotted
from relay.config.syntax import Unreadable

PREFIX = "RELAY__"


def apply(root: Node, environ: Mapping[str, str]) -> list[Problem]:
    """Put every RELAY__ variable into the tree; what cannot be put there is returned."""
    problems = []
    for path, variable in sorted(
        _paths(environ), key=lambda each: ([str(part).zfill(9) for part in each[0]], each[1])
    ):
        try:
            _put(root, path, _value(environ[variable], variable, path[-1] in schema.SECRETS))
        except (ValueError, Unreadable) as error:
            problems.append(Problem(variable, 0, 0, dotted(path), str(error)))
    return problems


def _paths(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for variable in environ:
        if variable.startswith(PREFIX):
            parts = variable.removeprefix(PREFIX).lower().split("__")
            yield tuple(int(part) if part.isdecimal() and len(part) < 6 else part for part in parts), variable


def _value(text: str, variable: str, secret: bool) -> Node:
    stripped = text.strip()
    if secret:  # nothing but text, also when it looks like a number or a list
        return Node(text, raw=text, variable=variable)
    if stripped[:1] + stripped[-1:] not in ("[]", "{}"):
        return Node(plain_scalar(text) if text else "", raw=text, variable=variable)
    node, flaws = read(stripped)
    if flaws or node is None:
        raise ValueError(flaws[0].text if flaws else "no value; write one")
    _mark(node, variable)
    return node


def _mark(node: Node, variable: str) -> None:
    """Say of a tree read from a variable where it came from: not a place in the file."""
    node.variable, node.line, node.column = variable, 0, 0
    for child in _children(node):
        _mark(child, variable)


def _children(node: Node) -> list[Node]:
    if isinstance(node.value, dict):
        return list(node.value.values())
    return node.value if isinstance(node.value, list) else []


def _put(node: Node, path: Path, value: Node) -> None:
    """Replace or add what `path` names, making what is missing above. ValueError: it does not fit."""
    here, rest = path[0], path[1:]
    if here == "":
        raise ValueError("an empty part in the name; write RELAY__SECTION__KEY")
    if node.value is None:
        node.value = [] if isinstance(here, int) else {}
    if isinstance(here, int):
        child = _item(node, here)
    elif isinstance(node.value, dict):
        child = node.value.setdefault(here, Node(None, variable=value.variable))
    else:
        what = (
            "a list; write the number of an item"
            if isinstance(node.value, list)
            else "one value; write no key"
        )
        raise ValueError(f"what is above {here!r} is {what}")
    if rest:
        _put(child, rest, value)
        return
    child.value, child.raw, child.variable = value.value, value.raw, value.variable
    child.keys, child.line, child.column = value.keys, 0, 0


def _item(node: Node, place: int) -> Node:
    if not isinstance(node.value, list):
        raise ValueError(f"what is above {place} is no list; write a key")
    if place > len(node.value):
        raise ValueError(f"the list has {len(node.value)} items; write {len(node.value)} to add one")
    if place == len(node.value):
        node.value.append(Node(None))
    return node.value[place]
