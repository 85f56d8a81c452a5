"""The address in MAIL FROM and RCPT TO: RFC 5321 sections 4.1.2 and 4.1.3, with what real clients send.

`parse_path` takes what stands behind the colon and returns (address, what follows: the parameters). Pure. The
address is kept as given, quoted local parts byte for byte; a source route is taken off (RFC 5321 appendix C),
an address without a domain gets `origin`. Percent hacks and bang paths are just local parts. Beyond the RFC
it takes a space after the colon, an address without <>, and dots anywhere in a local part.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache

LOCAL_LIMIT, DOMAIN_LIMIT, PATH_LIMIT, LABEL_LIMIT = 64, 255, 256, 63  # octets (RFC 5321 4.5.3.1)

_ATOM = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-"
_SIMPLE = re.compile(rf"<([{_ATOM}]{{1,64}})@([A-Za-z0-9._-]{{1,188}})>(?: +(.*))?")
_LOCAL = re.compile(rf"[{_ATOM}\u0080-\U0010ffff]+")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"')
_BARE = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^ <>"])+)(?: +(.*))?')
_ANGLE = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>(?: +(.*))?')


class PathError(ValueError):
    """Not a path; the text says what is wrong with it."""


def parse_path(text: str, origin: str) -> tuple[str, str]:
    """(address, parameters). `<>` gives "". text: printable characters only. Raises PathError."""
    match = _SIMPLE.fullmatch(text)
    if match is not None:
        local, domain, rest = match.groups("")
        if is_domain(domain):
            return f"{local}@{domain}", rest
    return _parse_slowly(text.lstrip(" "), origin)


def _parse_slowly(text: str, origin: str) -> tuple[str, str]:
    if not text.isprintable():  # CR, LF, NUL and other controls
        raise PathError("control character in the address")
    match = (_ANGLE if text.startswith("<") else _BARE).fullmatch(text)
    if match is None:
        raise PathError("expected <local-part@domain>")
    mailbox, rest = match.group(1), match.group(2) or ""
    if not mailbox:
        return "", rest
    address = _mailbox(_without_route(mailbox), origin)
    if len(address.encode()) + 2 > PATH_LIMIT:
        raise PathError(f"address is longer than {PATH_LIMIT} octets")
    return address, rest


def _without_route(mailbox: str) -> str:
    """`@a,@b:c@d` -> `c@d`."""
    if not mailbox.startswith("@"):
        return mailbox
    route, colon, rest = mailbox.partition(":")
    hosts = route.split(",")
    if not colon or not all(host.startswith("@") and is_domain(host[1:]) for host in hosts):
        raise PathError("bad source route")
    return rest


def _mailbox(mailbox: str, origin: str) -> str:
    local, rest = _split_local(mailbox)
    if len(local.encode()) > LOCAL_LIMIT:
        raise PathError(f"local part is longer than {LOCAL_LIMIT} octets")
    if not rest:
        return f"{local}@{origin}"
    if not is_domain(rest[1:]):
        raise PathError("bad domain")
    return mailbox


def _split_local(mailbox: str) -> tuple[str, str]:
    """(local part, "" or "@domain")."""
    match = (_QUOTED if mailbox.startswith('"') else _LOCAL).match(mailbox)
    if match is None:
        raise PathError("bad local part")
    local, rest = match.group(), mailbox[match.end() :]
    if rest and not rest.startswith("@"):
        raise PathError("bad local part")
    return local, rest


@lru_cache(maxsize=4096)
def is_domain(domain: str) -> bool:
    """Is it a host name (A-labels or U-labels, underscores as they occur) or an address literal?"""
    if domain.startswith("["):
        return domain.endswith("]") and _is_literal(domain[1:-1])
    if not 0 < len(domain) <= DOMAIN_LIMIT or len(domain.encode()) > DOMAIN_LIMIT:
        return False
    return all(_is_label(label) for label in domain.split("."))


def _is_label(label: str) -> bool:
    if label.isascii():
        return _LABEL.fullmatch(label) is not None
    if label.startswith("-") or label.endswith("-") or len(label) > LABEL_LIMIT:
        return False
    if not all(_is_label_character(character) for character in label):
        return False
    return len("xn--") + len(label.encode("punycode")) <= LABEL_LIMIT


def _is_label_character(character: str) -> bool:
    """Letters, digits, hyphen and combining marks (RFC 5890; the resolver has the last word)."""
    return character in "-_" or character.isalnum() or unicodedata.category(character).startswith("M")


def _is_literal(literal: str) -> bool:
    """192.0.2.1 or IPv6:2001:db8::1 (RFC 5321 4.1.3); a zone is not part of it."""
    try:
        if literal[:5].upper() == "IPV6:":
            return "%" not in literal and bool(ipaddress.IPv6Address(literal[5:]).exploded)
        return bool(ipaddress.IPv4Address(literal).exploded)
    except ValueError:
        return False
