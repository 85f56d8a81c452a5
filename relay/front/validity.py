"""Until when a certificate is valid, read from its PEM text: the few octets of DER that say so. Pure.

The standard library tells this of a peer's certificate only, after a handshake that found it valid.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
SEQUENCE, VERSION = 0x30, 0xA0  # tags
_FORMATS = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}  # UTCTime, GeneralizedTime


def not_after(text: str) -> float:
    """The end of the first certificate in `text`, in seconds since the epoch. ValueError: there is none.

    Certificate > tbsCertificate > version, serial number, signature, issuer, validity > notBefore, notAfter
    (RFC 5280 section 4.1)."""
    begin = text.find(BEGIN)
    end = text.find(END, begin)
    if begin < 0 or end < 0:
        raise ValueError("no certificate")
    der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(END)])
    try:
        certificate, _ = _value(der, SEQUENCE)
        rest, _ = _value(certificate, SEQUENCE)
        if rest[0] == VERSION:
            _, rest = _value(rest)
        for _ in range(3):
            _, rest = _value(rest)
        validity, _ = _value(rest, SEQUENCE)
        _, rest = _value(validity)
        return _time(rest)
    except (IndexError, KeyError, UnicodeDecodeError):
        raise ValueError("not a certificate") from None


def _value(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first element of `der`, and what comes behind it."""
    if tag is not None and der[0] != tag:
        raise ValueError("not a certificate")
    length, start = der[1], 2
    if length > 127:  # then so many octets of length follow
        start += length & 127
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise ValueError("cut off")
    return der[start : start + length], der[start + length :]


def _time(der: bytes) -> float:
    """RFC 5280 section 4.1.2.5: a year of two digits is one of 1950 to 2049."""
    content, _ = _value(der)
    found = datetime.strptime(content.decode("ascii"), _FORMATS[der[0]]).replace(tzinfo=UTC)
    if der[0] == 0x17 and found.year >= 2050:
        found = found.replace(year=found.year - 100)
    return found.timestamp()
