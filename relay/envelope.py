"""The envelope facts of a message that the queue carries without looking at them.

The queue knows a sender, recipients (address + an opaque options string) and an opaque `meta` blob. This
module is the one place that says what the two opaque things hold: `Envelope.pack()` / `unpack()` for `meta`;
the options string of a recipient is the client's NOTIFY= and ORCPT= parameters, byte for byte (RFC 3461
section 4), separated by a space, "" where there were none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from operator import attrgetter


@dataclass(slots=True)
class Envelope:
    """sender "" is the null sender; envid is the xtext as given; ret is "FULL", "HDRS" or "" (absent).

    eightbit and smtputf8 say "declared by the client and really present in the bytes": only then the next hop
    needs the extension: many clients declare both for plain ASCII mail.
    """

    sender: str = ""
    envid: str = ""
    ret: str = ""
    eightbit: bool = False
    smtputf8: bool = False
    client: str = ""  # "name[address]" as logged
    helo: str = ""
    protocol: str = ""  # "ESMTP", "SMTP", "ESMTPS", "ESMTPSA" ... (RFC 3848)
    listener: str = ""
    login: str = ""  # the authenticated user, "" without AUTH
    message_id: str = ""  # for logs and search; "" when the header has none
    original: str = ""  # the sender as the client gave it, where `rewrite:` put another in its place
    dsn: str = ""  # "" for ordinary mail; "failed", "delayed", "delivered", "relayed" for a report of ours

    def pack(self) -> bytes:
        """All but the sender (the queue has it), as compact JSON; defaults are left out. Hot."""
        facts = [
            key + ("true" if value is True else encode_basestring_ascii(value))
            for key, value in zip(_KEYS, _values(self), strict=True)
            if value
        ]
        return ("{" + ",".join(facts) + "}").encode()

    @classmethod
    def unpack(cls, sender: str, meta: bytes) -> Envelope:
        """The reverse of pack; unknown keys (of a newer version) are ignored. ValueError: not JSON."""
        facts = _decode(meta.decode()) if meta else {}
        if not _KNOWN.issuperset(facts):
            facts = {name: facts[name] for name in _META if name in facts}
        return cls(sender, **facts)


_META = tuple(name for name in Envelope.__slots__ if name != "sender")
_KNOWN = frozenset(_META)
_decode = json.JSONDecoder().decode
_KEYS = tuple(f'"{name}":' for name in _META)
_values = attrgetter(*_META)
