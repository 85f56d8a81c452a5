"""Does a next hop say that we have too many connections? Pure: a reply in, yes or no out.

There is no code of its own for it. Exchange Online says "432 4.3.2 Concurrent connections limit exceeded" or
"432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", others 421 or 45x with words like "too many
connections". 432 alone is not enough: RFC 4954 section 4.7.12 gives it to password transitions.
"""

from __future__ import annotations

import re

from relay.reply import Reply

_WORDS = re.compile(
    r"too many (?:\w+ ){0,3}(?:connections|sessions)"
    r"|(?:connections?|session|sender thread) limit"
    r"|limit (?:\w+ ){0,3}connections",
    re.IGNORECASE,
)


def too_many_connections(reply: Reply) -> bool:
    """True for a temporary refusal that asks for fewer connections."""
    if reply.code // 100 != 4:
        return False
    return (reply.code == 432 and reply.enhanced == "4.3.2") or _WORDS.search(reply.text) is not None
