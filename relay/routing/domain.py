"""Domain names as routing compares them: lower case, A-labels (RFC 5890), no final dot. Pure."""

from __future__ import annotations

import re

import idna

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
MAX_LENGTH = 253  # RFC 1035 section 2.3.4: 255 octets on the wire


def fold(domain: str) -> str:
    """The comparable form of a recipient's domain; never raises.

    ASCII is lower-cased; other names become A-labels (UTS 46 mapping). A name that IDNA refuses is only
    lower-cased: it cannot be in the DNS, and the resolver says so.
    """
    folded = domain.lower()
    if folded.endswith(".") and len(folded) > 1:
        folded = folded[:-1]
    if folded.isascii():
        return folded
    try:
        return idna.encode(folded, uts46=True).decode("ascii")
    except idna.IDNAError:
        return folded


def to_ascii(text: str) -> str:
    """A configured host or domain -> the same form, checked. ValueError says what is wrong with it."""
    name = fold(text)
    if not is_name(name):
        raise ValueError(f"{text!r} is not a host or domain name")
    return name


def to_ascii_pattern(text: str) -> str:
    """A domain in which "*" stands for any run of characters -> the same form, checked. ValueError as
    above."""
    name = ".".join(label.lower() if "*" in label else fold(label) for label in text.split("."))
    if not is_name(name.replace("*", "a")):
        raise ValueError(f'{text!r} is not a domain, with or without "*" in it')
    return name


def is_name(name: str) -> bool:
    """True when `name` (already folded) can be asked in the DNS as a host: letters, digits, hyphen,
    underscore."""
    return 0 < len(name) <= MAX_LENGTH and all(_LABEL.fullmatch(label) for label in name.split("."))
