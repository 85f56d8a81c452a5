"""What a transaction says: MAIL, RCPT and DATA as octets, with the parameters this peer understands.

Addresses and DSN parameters go out byte for byte as they came in (RFC 3461 section 5.2); nothing is added.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.delivery.capabilities import Capabilities
from relay.delivery.job import Job
from relay.delivery.verdict import Capability
from relay.envelope import Envelope


def what_is_lacking(job: Job, offered: Capabilities) -> tuple[Capability, str] | None:
    """What the message really needs and the peer does not offer, with words about it; None: nothing."""
    envelope, size = job.envelope, job.entry.size
    if envelope.smtputf8 and not offered.smtputf8:
        return "SMTPUTF8", "the host does not take internationalised mail (SMTPUTF8)"
    if envelope.eightbit and not offered.eightbit:
        return "8BITMIME", "the host does not take 8-bit content (8BITMIME)"
    if offered.size and size > offered.size:
        return "SIZE", f"the message has {size} octets, the host takes {offered.size}"
    return None


def commands(job: Job, batch: Sequence[int], offered: Capabilities, *, reset: bool) -> list[bytes]:
    """RSET (if asked), MAIL, a RCPT for each index of batch, DATA; each ended by CRLF.

    ValueError: an address or parameter holds a line end or what is no UTF-8: it cannot be said.
    """
    recipients = job.entry.recipients
    said = ["RSET\r\n"] if reset else []
    said.append(_mail(job.envelope, job.entry.size, offered))
    for index in batch:
        recipient = recipients[index]
        options = f" {recipient.options}" if recipient.options and offered.dsn else ""
        said.append(f"RCPT TO:<{recipient.address}>{options}\r\n")
    said.append("DATA\r\n")
    octets = [line.encode("utf-8", "surrogateescape") for line in said]
    for line in octets:
        if line.find(b"\n") != len(line) - 1 or line.find(b"\r") != len(line) - 2:
            raise ValueError("an address or parameter holds a line end")
    return octets


def _mail(envelope: Envelope, size: int, offered: Capabilities) -> str:
    said = f"MAIL FROM:<{envelope.sender}>"
    if offered.size is not None:
        said += f" SIZE={size}"  # counts doubled dots too, so a few octets more than RFC 1870 section 5 means
    if envelope.eightbit:
        said += " BODY=8BITMIME"
    if envelope.smtputf8:
        said += " SMTPUTF8"
    if offered.dsn:
        said += f" RET={envelope.ret}" if envelope.ret else ""
        said += f" ENVID={envelope.envid}" if envelope.envid else ""
    return said + "\r\n"
