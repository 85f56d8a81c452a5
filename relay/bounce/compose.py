"""A delivery status notification as bytes (RFC 3461, 3464, 6522, 6533, 3834). Pure.

multipart/report with three parts: a letter for people, message/delivery-status for programs, and the original
message or its headers. Pure ASCII wherever that is possible, so that a report needs no extension on its way:
the exceptions are a UTF-8 sender address, and 8-bit content that the sender asked to have back in full.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Sequence
from hashlib import sha256

from mailqueue.entry import Recipient
from relay import wire
from relay.bounce import clean, original
from relay.bounce.policy import RETURN_CAP, Kind
from relay.bounce.status import Facts, delivery_status
from relay.bounce.text import letter, subject
from relay.envelope import Envelope
from relay.outcome import Outcome

_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=?-]{1,60}")


def compose(
    kind: Kind,
    *,
    hostname: str,
    now: float,
    queue_id: str,
    envelope: Envelope,
    accepted: float,
    results: Sequence[tuple[Recipient, Outcome]],
    content: bytes,
    complete: bool,
    boundary: str,
    message_id: str,
    to: str = "",
    give_up: float = 0.0,
    cap: int = RETURN_CAP,
) -> bytes:
    """The report in wire form.

    now, accepted, give_up: seconds since the epoch (give_up: when retries end, 0: not said). queue_id and
    envelope: of the original. content: its octets in wire form, all of them when `complete`, else the first
    part (RETURN_CAP octets are enough). boundary: of the MIME parts; another is derived from it when
    it occurs in them. message_id: of the report. to: its address, the original's sender when "". cap: the
    most octets of content that are returned in full.
    """
    facts = Facts(
        kind=kind,
        hostname=clean.escaped(clean.plain(hostname, 100)),
        now=now,
        queue_id=clean.plain(queue_id, 100),
        envelope=envelope,
        accepted=accepted,
        results=tuple(results),
        give_up=give_up,
        to=to or envelope.sender,
    )
    full = kind == "failed" and envelope.ret == "FULL"
    source = original.read(content, complete, full, cap)
    parts = [
        _letter_part(letter(facts, source, _returned(facts, source, full))),
        _status_part(facts),
        _original_part(facts, source),
    ]
    line = _unused(boundary, parts)
    body = b"".join(b"--%b\r\n%b\r\n" % (line, part) for part in parts)
    header = _header(facts, source, line.decode(), message_id)
    return wire.stuff(b"%b\r\n%b--%b--\r\n" % (header, body, line))


def _returned(facts: Facts, source: original.Original, full: bool) -> str:
    if source.content is not None:
        return "The whole message is attached."
    if not source.headers:
        return ""
    if full:
        return "The message is too large or not fit to be returned whole; its headers are attached."
    return "The headers of the message are attached." if facts.kind == "failed" else ""


def _header(facts: Facts, source: original.Original, boundary: str, message_id: str) -> bytes:
    host = facts.hostname
    lines = [
        f"Date: {clean.date(facts.now)}",
        f'From: "Mail relay at {host}" <MAILER-DAEMON@{host}>',
        f"To: <{clean.address(facts.to)}>",
        f"Subject: {subject(facts)}",
        f"Message-ID: <{clean.plain(message_id, 500).strip('<>')}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
    ]
    if source.message_id:
        lines += [f"In-Reply-To: {source.message_id}", f"References: {source.message_id}"]
    lines += [
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {'7bit' if _ascii(source, facts) else '8bit'}",
        "",
    ]
    return "\r\n".join(lines).encode()


def _ascii(source: original.Original, facts: Facts) -> bool:
    """Whether every part is 7bit: the rule of the module's docstring."""
    return not facts.utf8 and (source.content is None or source.content.isascii())


def _part(kind: str, encoding: str, body: bytes, description: str) -> bytes:
    """One MIME part; body: CRLF lines."""
    header = (
        f"Content-Description: {description}\r\n"
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return header.encode() + body


def _crlf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _letter_part(text: str) -> bytes:
    encoded = text.encode()
    if encoded.isascii():
        return _part("text/plain; charset=us-ascii", "7bit", _crlf(encoded), "Notification")
    return _part("text/plain; charset=utf-8", "quoted-printable", _quoted(encoded), "Notification")


def _quoted(text: bytes) -> bytes:
    return _crlf(quopri.encodestring(text.replace(b"\r\n", b"\n")))


def _status_part(facts: Facts) -> bytes:
    fields = _crlf(delivery_status(facts).encode())
    if facts.utf8:
        return _part("message/global-delivery-status", "8bit", fields, "Delivery report")
    return _part("message/delivery-status", "7bit", fields, "Delivery report")


def _original_part(facts: Facts, source: original.Original) -> bytes:
    """message/rfc822 for all of it; else the headers, encoded where they are not ASCII (RFC 6522 4)."""
    if source.content is not None:
        kind = "message/rfc822" if source.headers.isascii() or not facts.utf8 else "message/global"
        encoding = "7bit" if source.content.isascii() else "8bit"
        return _part(kind, encoding, source.content, "Undelivered message")
    headers = source.headers
    sound = original.fits(headers)
    if headers.isascii() and sound:
        return _part("text/rfc822-headers", "7bit", headers, "Message headers")
    utf8 = _is_utf8(headers)
    if utf8 and sound and facts.utf8:
        return _part("message/global-headers", "8bit", headers, "Message headers")
    charset = "utf-8" if utf8 else "unknown-8bit"
    return _part(
        f"text/rfc822-headers; charset={charset}", "quoted-printable", _quoted(headers), "Message headers"
    )


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unused(boundary: str, parts: Sequence[bytes]) -> bytes:
    """A boundary that occurs in no part: the given one, or one derived from it and them."""
    candidate = boundary if _BOUNDARY.fullmatch(boundary) else "=_report"
    everything = b"\r\n".join(parts)
    while (line := candidate.encode()) in everything:
        candidate = sha256(line + everything).hexdigest()[:40]
    return line
