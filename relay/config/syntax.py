"""What YAML's parser complains about, in words that say what to write."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from relay.config.problem import Path

MAX_OCTETS = 1 << 20
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that can be reported beside others: a duplicate key, a tag."""

    line: int
    column: int
    path: Path
    text: str


class Unreadable(Exception):
    """The text cannot be read to its end; nothing else is known about it."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.column = column
        self.text = text


def decode(octets: bytes) -> str:
    """UTF-8 with or without a byte order mark -> text. Unreadable: anything else, or too large."""
    if len(octets) > MAX_OCTETS:
        raise Unreadable(0, 0, "larger than 1 MiB; this is no configuration file")
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable(1, 1, "the file is UTF-16; write it as UTF-8")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode("utf-8-sig")
        raise Unreadable(
            *_place(before), f"the octet 0x{octets[error.start]:02x} is not UTF-8; write the file as UTF-8"
        ) from None
    if control := _CONTROL.search(text):
        number = f"U+{ord(control[0]):04X}"
        raise Unreadable(
            *_place(text[: control.start()]), f"the control character {number} stands here; remove it"
        )
    return text


def _place(before: str) -> tuple[int, int]:
    """Line and column (from 1) of what follows `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def explain_syntax(error: yaml.YAMLError, text: str) -> Unreadable:
    """PyYAML's exception -> where it is and what to do."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return Unreadable(0, 0, f"not YAML: {' '.join(str(error).split())}; write key: value lines")
    lines = [*text.splitlines(), ""]
    mark, start = error.problem_mark, error.context_mark
    context, problem = error.context or "", error.problem or ""
    line = lines[min(mark.line, len(lines) - 1)]
    if start is not None and "quoted scalar" in context and "end of stream" in problem:
        return Unreadable(
            start.line + 1, start.column + 1, "this quote is never closed; write the closing quote"
        )
    if start is not None and "simple key" in context:
        return Unreadable(start.line + 1, start.column + 1, "a line without a colon; write key: value")
    if start is not None and "flow" in context and (mark.line > start.line or not line[mark.column :]):
        opening = lines[min(start.line, len(lines) - 1)][start.column : start.column + 1]
        closing = {"[": "]", "{": "}"}.get(opening)
        if closing:
            return Unreadable(
                start.line + 1, start.column + 1, f"this {opening} is never closed; write the {closing}"
            )
    return Unreadable(mark.line + 1, mark.column + 1, _advice(problem, line, mark.column))


_ADVICE = (
    (
        "mapping values are not allowed",
        "a colon too many, or a wrong indentation; write the value in quotes, or align the keys",
    ),
    (
        "alphabetic or numeric character",
        'a value cannot begin with * or &; write it in quotes: "*.example.org"',
    ),
    ("expected ',' or", "a comma or the closing bracket is missing here; write it"),
    (
        "expected node content",
        'a value is missing, needs quotes ("::1"), or a bracket is never closed; write it so',
    ),
    ("incompatible YAML document", "this version of YAML is not known; remove the line with %YAML"),
    (
        "escape character",
        'a backslash needs another one between double quotes; write "\\\\" or use single quotes',
    ),
    (
        "'-' indicator",
        "this line does not fit the list above; write it under the items, with - in front",
    ),
)


def _advice(problem: str, line: str, column: int) -> str:
    here = line[column : column + 1]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "the line is indented with a tab; write spaces"
    if "cannot start any token" in problem and here:
        return f'a value cannot begin with {here}; write it in quotes: "{here}..."'
    for words, advice in _ADVICE:
        if words in problem:
            return advice
    if not line[:column].strip():
        return "this line does not fit the lines above; write keys under keys and - under -"
    return f"{problem}; write key: value, and texts with signs in quotes"
