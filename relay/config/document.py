"""YAML text -> a tree of nodes that know where they stand.

libyaml's events are read here without PyYAML's resolver, because YAML 1.1 is full of surprises (`no`,
`22:22`, `0600`, dates): a plain scalar is a number only when it is one in JSON; true, false and null are what
YAML 1.2 says; all else is text. Duplicate keys, tags, merge keys and keys that are no text are flaws, all of
them reported; bad syntax alone ends the reading. Bounded in size, depth and number of values, aliases counted
as often as they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from relay.config.problem import Path
from relay.config.syntax import Flaw, Unreadable, explain_syntax

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: slower, the same events
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_DEPTH = 20
MAX_VALUES = 100_000

Scalar = str | int | float | bool | None
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)")
_WORDS: dict[str, bool | None] = {
    spelling: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
} | {"": None, "~": None}


@dataclass(slots=True)
class Node:
    """One value. line, column: from 1, 0 when it is not from the file; raw: a scalar as written.

    variable: the environment variable it came from, "" for the file; keys: the place of each key.
    """

    value: Scalar | list[Node] | dict[str, Node]
    line: int = 0
    column: int = 0
    raw: str = ""
    variable: str = ""
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    values: int = 1  # this one and all below it


def plain_scalar(text: str) -> Scalar:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and len(text) < 40:
        return float(text)
    return text


def read(text: str) -> tuple[Node | None, list[Flaw]]:
    """The one document of `text` (None: empty) and its flaws. Unreadable: bad syntax or over a bound."""
    try:
        return _Reader(text).document()
    except yaml.YAMLError as error:
        raise explain_syntax(error, text) from None


class _Reader:
    """Recursive descent over the events; depth is bounded by MAX_DEPTH."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_Loader))
        self._flaws: list[Flaw] = []
        self._anchors: dict[str, Node | None] = {}

    def document(self) -> tuple[Node | None, list[Flaw]]:
        next(self._events)  # StreamStart
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None, []
        root = self._node(next(self._events), ())
        next(self._events)  # DocumentEnd
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise _unreadable(after, "a second document begins here; remove the line with ---")
        empty = root.value is None and not root.raw
        return (None if empty else root), self._flaws

    def _node(self, event: Any, path: Path) -> Node:
        if len(path) > MAX_DEPTH:
            raise _unreadable(event, f"nested deeper than {MAX_DEPTH} levels; no key needs that")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # until it is complete
        if event.tag is not None:
            self._flaw(event, path, "tags (!...) are not used here; write the value without it")
        node = self._value(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _value(self, event: Any, path: Path) -> Node:
        line, column = _place(event)
        if isinstance(event, yaml.ScalarEvent):
            value = plain_scalar(event.value) if event.implicit[0] or event.tag else event.value
            return Node(value, line, column, event.value)
        node = Node(None, line, column)
        if isinstance(event, yaml.SequenceStartEvent):
            node.value = self._sequence(node, path)
        else:
            node.value = self._mapping(node, path)
        return node

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            why = "refers to itself" if event.anchor in self._anchors else "refers to nothing"
            raise _unreadable(event, f"*{event.anchor} {why}; if it is meant as text, write it in quotes")
        return node

    def _sequence(self, parent: Node, path: Path) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
            self._count(parent, items[-1], event)
        return items

    def _mapping(self, parent: Node, path: Path) -> dict[str, Node]:
        children: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path)
            inner = path if key is None else (*path, key)
            child = self._node(next(self._events), (*path, key or ""))
            self._count(parent, child, event)
            if key is None:
                continue
            if key in children:
                first = parent.keys[key][0]
                self._flaw(event, inner, f"written twice, the first time at line {first}; write it once")
                continue
            children[key] = child
            parent.keys[key] = _place(event)
        return children

    def _key(self, event: Any, path: Path) -> str | None:
        """The text of a key, or None (with a flaw) when it is none."""
        if not isinstance(event, yaml.ScalarEvent):
            known = len(self._flaws)
            self._node(event, (*path, ""))
            del self._flaws[known:]
            self._flaw(
                event, path, "a key must be plain text; write key: value (or fill in the template's {{ }})"
            )
            return None
        if event.value == "<<" and event.implicit[0]:
            self._flaw(event, path, "merge keys (<<) are not used here; write the keys out")
            return None
        return str(event.value)

    def _count(self, parent: Node, child: Node, event: Any) -> None:
        parent.values += child.values
        if parent.values > MAX_VALUES:
            raise _unreadable(event, f"more than {MAX_VALUES} values, aliases counted; write a smaller file")

    def _flaw(self, event: Any, path: Path, text: str) -> None:
        self._flaws.append(Flaw(*_place(event), path, text))


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _unreadable(event: Any, text: str) -> Unreadable:
    return Unreadable(*_place(event), text)
