"""What pydantic finds wrong, worded for people: what is wrong, then what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from relay.config import model, schema
from relay.config.problem import Path, dotted
from relay.config.units import format_duration, format_size


@dataclass(frozen=True, slots=True)
class Found:
    """unknown: the key itself is wrong, so that another one of its section may be the one that was meant."""

    path: Path
    text: str
    unknown: bool = False


def explain(errors: ValidationError, raw: Callable[[Path], str | None]) -> list[Found]:
    """Every error. raw: a scalar as it was written, None where there is none."""
    found = []
    for error in errors.errors(include_url=False):
        path = _without_tags(error["loc"])
        found.append(Found(path, _text(error, path, raw(path)), error["type"] == "extra_forbidden"))
    return found


def _without_tags(loc: Path) -> Path:
    """pydantic names the branch of `via` in the path: ("routes", 0, "via", "list", 1)."""
    return tuple(part for place, part in enumerate(loc) if not (place and loc[place - 1] == "via"))


def _text(error: Mapping[str, Any], path: Path, raw: str | None) -> str:
    kind, value = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "extra_forbidden":
        return unknown_key(path)
    if kind == "literal_error":
        return _choice(value, path, error["ctx"]["expected"])
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{_shown(value)} is out of range; write {_range(path)}"
    if kind in ("string_type", "path_type"):
        return _text_wanted(value, path, raw)
    if kind in _SHAPES:
        return _SHAPES[kind](value, path)
    return f"{error['msg'].lower()}; see deploy/relay.yaml for how it is written"


def _shown(value: Any) -> str:
    if value is None:
        return "no value"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a group of keys"
    if isinstance(value, list | tuple):
        return "a list"
    return repr(value)


def _choice(value: Any, path: Path, expected: str) -> str:
    allowed = expected.replace("'", "").replace(" or ", ", ")
    words = allowed.split(", ")
    if str(value).lower() in ("no", "false", "off", "none") and words[0] in ("off", "none"):
        return f"{_shown(value)} is not known here; write {words[0]} (one of {allowed})"
    near = difflib.get_close_matches(str(value).lower(), words, 1, 0.6)
    if near:
        return f"{_shown(value)} is not known here; write {near[0]} (one of {allowed})"
    return f"{_shown(value)} is not known here; write one of {allowed}"


def _range(path: Path) -> str:
    field = schema.field_at(path)
    bounds = {
        name: getattr(each, name)
        for each in (field.metadata if field else ())
        for name in ("ge", "le")
        if hasattr(each, name)
    }
    return f"a number from {bounds.get('ge')} to {bounds.get('le')}"


def _text_wanted(value: Any, path: Path, raw: str | None) -> str:
    if path[-1] in schema.SECRETS and not isinstance(value, Mapping | list | tuple):
        return "not a text; write it in quotes"  # a secret is never repeated
    if isinstance(value, Mapping | list | tuple):
        return f"{_shown(value)} where one text is wanted; write {_example(path)}"
    if value is None:
        return f"no value; write {_example(path)}"
    if path[-1] == "address" and isinstance(value, int):
        return f"{_shown(value)} is not an address and a port; write 127.0.0.1:{value}"
    return f'{_shown(value)} where text is wanted; write it in quotes: "{raw or _shown(value)}"'


def _whole_wanted(value: Any, path: Path) -> str:
    digits = value.replace("_", "").replace(",", "").strip() if isinstance(value, str) else ""
    if digits.isdecimal() and digits.isascii():
        number = str(int(digits[:18]))
        return f"{value!r} is text; write {number}{', without quotes' if number == value else ''}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value!r} is not a whole number; write {int(value)}"
    return f"{_shown(value)} is not a whole number; write {_range(path)}"


def _number_wanted(value: Any, path: Path) -> str:
    return f"{_shown(value)} is not a number; write {_range(path)}, without quotes"


def _list_wanted(value: Any, path: Path) -> str:
    if path[-1] == "via":
        return f"{_shown(value)} is no next hop; write it as smtp.example.net:587, or mx"
    inner = schema.section_at(path)
    if inner is not None:
        keys = next(iter(schema.fields_of(inner)))
        return f'{_shown(value)} where a list is wanted; write "- " before each item, such as "- {keys}: ..."'
    if isinstance(value, str):
        return f'{value!r} where a list is wanted; write ["{value}"]'
    return f'{_shown(value)} where a list is wanted; write it as ["...", "..."]'


def _section_wanted(value: Any, path: Path) -> str:
    section = schema.section_at(path)
    keys = ", ".join(schema.fields_of(section)) if section else ""
    return f"{_shown(value)} where keys are wanted; write key: value below it (keys: {keys})"


def _missing(_: Any, path: Path) -> str:
    return f"a key that must be there; write {path[-1]}: with a value"


def _truth_wanted(value: Any, _: Path) -> str:
    return f"{_shown(value)} is neither true nor false; write true or false, without quotes"


_SHAPES = {
    "missing": _missing,
    "bool_type": _truth_wanted,
    "int_type": _whole_wanted,
    "float_type": _number_wanted,
    "finite_number": _number_wanted,
    "tuple_type": _list_wanted,
    "model_type": _section_wanted,
}


def _example(path: Path) -> str:
    """What a key's value looks like, from its default."""
    field = schema.field_at(path)
    if field is None or field.default in ("", None, ()) or not isinstance(field.default, str | FilePath):
        return "it as text"
    return f"it as {field.default}"


def unknown_key(path: Path) -> str:
    """The nearest right key, or where it belongs, or the keys there are."""
    section, key = schema.section_at(path[:-1]) or model.Config, str(path[-1])
    names = list(schema.fields_of(section))
    if key in schema.ELSEWHERE:
        return f"unknown key; write {schema.ELSEWHERE[key]}"
    near = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, 0.65)
    if near:
        return f"unknown key; write {near[0]}"
    homes = [dotted(found) for found, _ in schema.all_keys() if found[-1] == key]
    if homes:
        return f"unknown key at this place; write it as {' or '.join(homes)}"
    return f"unknown key; write one of {', '.join(names)}"


def no_value(path: Path) -> str:
    """A key is there and its value is not."""
    field = schema.field_at(path)
    if field is None:
        return "no value; write one, or remove the line"
    if path[-1] in ("to", "from"):
        return "no value; write a list, or remove the key to match any"
    return f"no value; write one, or remove the key for the default ({shown_default(path, field.default)})"


def shown_default(path: Path, default: Any) -> str:
    """A default as it would be written in the file."""
    if isinstance(default, tuple):
        return "[" + ", ".join(shown_default(path, item) for item in default) + "]"
    if isinstance(default, model.Listener):
        return f"address: {default.address}"
    if isinstance(default, float) and path[-1] not in ("factor", "jitter"):
        return format_duration(default)
    if path[-1] in ("message_size", "spool_reserve"):
        return format_size(default)
    return str(default) if default != "" else "none"
