"""One request of an operator, checked: from the JSON object of the control socket to the queue's own types.

Fields: command; ids (queue ids), sender, recipient, lane, states (names as in STATES), older_than and
younger_than (seconds); all (true: yes, everything), dry_run, content, address, from. Whatever is wrong is a
Refused with a text for people and an exit code of sysexits.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mailqueue.entry import Filter, State, message_number
from relay.observe.spool import STATE_NAMES

STATES = {name: state for state, name in STATE_NAMES.items()}
USAGE, NO_INPUT, UNAVAILABLE, INTERNAL, NO_PERMISSION = 64, 66, 69, 70, 77  # sysexits.h

T = TypeVar("T")


class Refused(Exception):
    """text for people; code: the exit code."""

    def __init__(self, text: str, code: int = USAGE) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Selection:
    """What an operator means: some messages by id, or all that match, or both (these ids, if they match)."""

    ids: tuple[str, ...]
    criteria: Filter
    everything: bool

    @property
    def filters(self) -> list[Filter]:
        """One filter for the queue per id, or one for all."""
        return [replace(self.criteria, message=name) for name in self.ids] or [self.criteria]

    @property
    def empty(self) -> bool:
        return not self.ids and self.criteria == Filter()

    def __str__(self) -> str:
        """As words, for the log: "sender=@example.com state=deferred"."""
        criteria = self.criteria
        parts = (
            *self.ids,
            f"sender={criteria.sender}" if criteria.sender else "",
            f"recipient={criteria.recipient}" if criteria.recipient else "",
            f"lane={criteria.lane}" if criteria.lane else "",
            *(f"state={STATE_NAMES[state]}" for state in sorted(criteria.states)),
            f"older_than={criteria.older_than:g}s" if criteria.older_than else "",
            f"younger_than={criteria.younger_than:g}s" if criteria.younger_than else "",
        )
        return " ".join(part for part in parts if part)


def selection(request: Mapping[str, Any]) -> Selection:
    """The ids and the filter of a request. Refused for a wrong type, state or id, and for a bare domain."""
    ids = tuple(_texts(request, "ids"))
    for name in ids:
        try:
            message_number(name)
        except ValueError:
            raise Refused(f"{name!r} is not a queue id") from None
    criteria = Filter(
        sender=_address(request, "sender"),
        recipient=_address(request, "recipient"),
        lane=field(request, "lane", str, ""),
        states=frozenset(_state(name) for name in _texts(request, "states")),
        older_than=_seconds(request, "older_than"),
        younger_than=_seconds(request, "younger_than"),
    )
    return Selection(ids, criteria, field(request, "all", bool, False))


def field(request: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """One member, of that type; Refused when it is of another."""
    value = request.get(name, default)
    if not isinstance(value, kind):
        raise Refused(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    return value


def _address(request: Mapping[str, Any], name: str) -> str:
    """An address, @domain or <>. A domain without its @ would quietly match nothing."""
    value = field(request, name, str, "")
    if "." in value and "@" not in value:
        raise Refused(f"{value!r} is not an address; write @{value} for everybody there")
    return value


def _texts(request: Mapping[str, Any], name: str) -> list[str]:
    values = field(request, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise Refused(f"{name} must be a list of texts")
    return values


def _seconds(request: Mapping[str, Any], name: str) -> float:
    value = request.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise Refused(f"{name} must be a number of seconds")
    return float(value)


def _state(name: str) -> State:
    if name not in STATES:
        raise Refused(f"no state {name!r}; there are {', '.join(STATES)}")
    return STATES[name]
