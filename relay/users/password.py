"""Passwords as they stand in users_file: $scrypt$ln=15,r=8,p=1$SALT$HASH (RFC 7914; the form of passlib).

SALT and HASH are base64 without padding. Passwords are compared in NFC (RFC 8265 section 4.2). One check
takes about 0.1 s and 32 MiB: never on the event loop. Nothing here keeps a password or shows a hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass

SALT_OCTETS, HASH_OCTETS = 16, 32  # of new lines
MEMORY_LIMIT = 64 * 2**20  # octets of memory a line may ask for
WORK_LIMIT = 2**22  # N * r * p: 16 times the default's
LEAST_LN = 10

_FORM = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


@dataclass(frozen=True, slots=True)
class Cost:
    """N is 2**ln; memory: 128 * N * r octets."""

    ln: int = 15
    r: int = 8
    p: int = 1

    @property
    def memory(self) -> int:
        return 128 * self.r * ((1 << self.ln) + self.p + 2)


DEFAULT = Cost()


@dataclass(frozen=True, slots=True, repr=False)
class Hash:
    """One password's hash; `line` is its text in the file."""

    line: str
    cost: Cost
    salt: bytes
    digest: bytes

    def matches(self, password: str) -> bool:
        """Slow: scrypt. The interpreter's lock is free meanwhile."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.cost, len(self.digest)), self.digest)


def parse_hash(text: str) -> Hash:
    """ValueError says what is wrong, without the text."""
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError("the password is no $scrypt$ hash; make the line with relay user add")
    cost = Cost(*map(int, found.group(1, 2, 3)))
    _check(cost)
    try:
        salt, digest = (base64.b64decode(part + "=" * (-len(part) % 4)) for part in found.group(4, 5))
    except binascii.Error:
        raise ValueError("salt or hash is not base64; make the line with relay user add") from None
    if not (8 <= len(salt) <= 64 and 16 <= len(digest) <= 64):
        raise ValueError("salt or hash has an odd length; make the line with relay user add")
    return Hash(text, cost, salt, digest)


def _check(cost: Cost) -> None:
    """A line of the file must not be able to take all memory or time."""
    if not (LEAST_LN <= cost.ln <= 24 and cost.r and cost.p):
        raise ValueError(f"ln={cost.ln},r={cost.r},p={cost.p} is out of range; write ln=15,r=8,p=1")
    if cost.memory > MEMORY_LIMIT + 2**20 or (cost.r * cost.p) << cost.ln > WORK_LIMIT:
        text = f"ln={cost.ln},r={cost.r},p={cost.p} takes too much memory or time"
        raise ValueError(f"{text}; write ln=15,r=8,p=1")


def make_hash(password: str, salt: bytes, cost: Cost | None = None) -> Hash:
    """salt: SALT_OCTETS of chance; cost: DEFAULT unless given."""
    cost = cost or DEFAULT
    digest = _scrypt(password, salt, cost, HASH_OCTETS)
    text = "$".join(base64.b64encode(part).decode().rstrip("=") for part in (salt, digest))
    return Hash(f"$scrypt$ln={cost.ln},r={cost.r},p={cost.p}${text}", cost, salt, digest)


def _scrypt(password: str, salt: bytes, cost: Cost, octets: int) -> bytes:
    return hashlib.scrypt(
        prepared(password),
        salt=salt,
        n=1 << cost.ln,
        r=cost.r,
        p=cost.p,
        maxmem=cost.memory + 2**20,
        dklen=octets,
    )


def prepared(text: str) -> bytes:
    """In NFC: the same characters, however they were typed, are the same octets."""
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).encode()
