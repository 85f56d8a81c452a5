"""The text of users_file: a line for each user, comments and blank lines. Pure.

    name:$scrypt$ln=15,r=8,p=1$SALT$HASH[:sender,sender...]

A sender is a pattern as in routes.from: an address, @domain, <> for the null sender; without any, all are
allowed. A wrong line is named and takes nobody else's login away.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.routing.pattern import Matcher, compile_patterns, fold_address
from relay.users.password import Cost, Hash, parse_hash

NAME_LIMIT = 255  # octets


@dataclass(frozen=True, slots=True, repr=False)
class User:
    """patterns: as written, empty: any sender."""

    name: str
    hash: Hash
    patterns: tuple[str, ...] = ()
    senders: Matcher | None = None

    def may_send_as(self, sender: str) -> bool:
        """sender: an envelope sender, "" for the null sender."""
        return self.senders is None or self.senders.matches(*fold_address(sender))


@dataclass(frozen=True, slots=True)
class Listing:
    """users: by name; problems: (number of the line, what is wrong with it)."""

    users: dict[str, User] = field(default_factory=dict)
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def cost(self) -> Cost:
        """What most of the lines cost: an unknown name is made to cost the same."""
        counts = Counter(user.hash.cost for user in self.users.values())
        return counts.most_common(1)[0][0] if counts else Cost()


def parse_listing(text: str) -> Listing:
    """Everything that can be read of it."""
    users: dict[str, User] = {}
    problems: list[tuple[int, str]] = []
    for number, line in lines(text):
        try:
            user = parse_user(line)
            if user.name in users:
                raise ValueError(f"{user.name} stands above already; this line is not used")
            users[user.name] = user
        except ValueError as error:
            problems.append((number, str(error)))
    return Listing(users, tuple(problems))


def lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that should be users, with their numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def parse_user(line: str) -> User:
    """ValueError says what is wrong; never with what may be a password."""
    name, colon, rest = line.partition(":")
    if not colon:
        raise ValueError("no user; make the line with relay user add")
    name = check_name(name)
    secret, _, senders = rest.partition(":")
    patterns = tuple(filter(None, (pattern.strip() for pattern in senders.split(","))))
    return User(name, parse_hash(secret.strip()), patterns, compile_senders(patterns))


def compile_senders(patterns: tuple[str, ...]) -> Matcher | None:
    """None when any sender is allowed. ValueError names the wrong pattern."""
    return compile_patterns(patterns, sender=True) if patterns else None


def check_name(name: str) -> str:
    """A user's name in NFC (RFC 8265 section 3.4, of its rules those that prevent confusion)."""
    name = unicodedata.normalize("NFC", name.strip(" \t\r"))
    if not name or len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
        raise ValueError(f"a user's name has 1 to {NAME_LIMIT} octets")
    if ":" in name or name.startswith("#") or any(not c.isprintable() or c.isspace() for c in name):
        raise ValueError("a user's name has no colon, space or control character and does not begin with #")
    return name
