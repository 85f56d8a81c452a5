"""From the tree of nodes to plain data for the model, and from a path back to the place in the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from relay.config import schema
from relay.config.document import Node
from relay.config.problem import Path, Problem, dotted


class Tree:
    """The configuration as written: the file's document with the environment put in."""

    def __init__(self, root: Node, file: str) -> None:
        self._root = root
        self._file = file

    def data(self, without: Iterable[Path] = ()) -> tuple[dict[str, Any], list[Path]]:
        """What the model validates, and the keys that have no value. `without`: paths to leave out."""
        empty: list[Path] = []
        value = self._data(self._root, (), frozenset(without), empty)
        return (value if isinstance(value, dict) else {}), empty

    def _data(self, node: Node, path: Path, without: frozenset[Path], empty: list[Path]) -> Any:
        if isinstance(node.value, list):
            # tuples: what the model holds, so that nothing is guessed about other sequences
            return tuple(
                self._data(item, (*path, place), without, empty) for place, item in enumerate(node.value)
            )
        if not isinstance(node.value, dict):
            return node.value
        found = {}
        for key, child in node.value.items():
            inner = (*path, key)
            if inner in without:
                continue
            if child.value is None and schema.field_at(inner) is not None:
                if not schema.takes_null(inner):
                    empty.append(inner)
                continue
            found[key] = self._data(child, inner, without, empty)
        return found

    def problem(self, path: Path, text: str, also: Iterable[Path] = ()) -> Problem:
        """A problem of `path`, at its place. Not written there: at one of `also`, or what is above."""
        written = next((each for each in (path, *also) if self._node(each)), path)
        variable, line, column = self._place(written)
        return Problem(variable or self._file, line, column, dotted(path), text)

    def _place(self, path: Path) -> tuple[str, int, int]:
        node, found = self._root, (self._root.variable, 0, 0)
        for part in path:
            child = _child(node, part)
            if child is None:
                break
            place = node.keys.get(str(part)) or (child.line, child.column)
            found = (child.variable, 0, 0) if child.variable else ("", *place) if place[0] else found
            node = child
        return found

    def raw(self, path: Path) -> str | None:
        """A scalar as it was written, None when there is none."""
        node = self._node(path)
        return node.raw if node and not isinstance(node.value, list | dict) else None

    def _node(self, path: Path) -> Node | None:
        node: Node | None = self._root
        for part in path:
            node = _child(node, part) if node else None
        return node


def _child(node: Node, part: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(part))
    if isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None


def unshared(node: Node) -> Node:
    """A copy in which every alias has become a node of its own. Bounded by what `document.read` lets in."""
    if isinstance(node.value, list):
        return replace(node, value=[unshared(item) for item in node.value])
    if isinstance(node.value, dict):
        return replace(
            node, value={key: unshared(child) for key, child in node.value.items()}, keys=dict(node.keys)
        )
    return replace(node)
