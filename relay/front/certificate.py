"""The certificate and key of the configuration -> a TLS context for the listeners.

TLS 1.2 and newer, ciphers with forward secrecy only and in our order, no compression, no renegotiation, and
no session tickets: some large senders drop a connection on which tickets are offered, and mail gains nothing
by them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from relay.front.validity import not_after

Mark = tuple[
    tuple[int, int, int], tuple[int, int, int]
]  # per file: when it was changed (ns), its size, its inode

_OPTIONS = (
    ssl.OP_NO_TICKET
    | ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | ssl.OP_SINGLE_ECDH_USE
)
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!eNULL:!SHA1:!AESCCM"


class CertificateError(Exception):
    """The pair cannot be used. The text is one line that says which file, why and what to do."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """ends: of the certificate itself, in seconds since the epoch; mark: of the files as they were read."""

    context: ssl.SSLContext
    ends: float
    mark: Mark


def load(certificate: Path, key: Path) -> Loaded:
    """Raises CertificateError. Reads the disk."""
    mark = mark_of(certificate, key)
    text = _read("certificate", certificate, "CERTIFICATE")
    _read("key", key, "PRIVATE KEY")
    try:
        ends = not_after(text)
    except ValueError as error:
        raise CertificateError(f"tls.certificate: {certificate}: {error}; {_PEM}") from None
    return Loaded(_context(certificate, key), ends, mark)


def mark_of(certificate: Path, key: Path) -> Mark:
    """Tells changed files from those that were read. CertificateError: one cannot be looked at."""
    return _mark("tls.certificate", certificate), _mark("tls.key", key)


def _mark(name: str, file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise CertificateError(_unreadable(name, file, error)) from None
    return found.st_mtime_ns, found.st_size, found.st_ino


_PEM = "write the name of a PEM file, the certificate first, then its chain"


def _read(name: str, file: Path, label: str) -> str:
    try:
        text = file.read_text("latin-1")
    except OSError as error:
        raise CertificateError(_unreadable(f"tls.{name}", file, error)) from None
    if f"{label}-----" not in text:
        advice = _PEM if name == "certificate" else "write the name of a PEM file with the private key"
        raise CertificateError(f"tls.{name}: no {name} in {file}; {advice}")
    return text


def _unreadable(name: str, file: Path, error: OSError) -> str:
    advice = "let the relay's user read it" if isinstance(error, PermissionError) else "name one that exists"
    return f"{name}: cannot read {file}: {error.strerror or error}; {advice}"


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _OPTIONS
    context.num_tickets = 0  # TLS 1.3; OP_NO_TICKET is for 1.2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"tls.key: {key} is not the key of {certificate}; name the two files of one pair"
        else:
            why = (error.reason or "not understood").lower().replace("_", " ")
            text = f"tls: {certificate} with {key}: {why}; {_PEM}"
        raise CertificateError(text) from None
    except OSError as error:
        raise CertificateError(_unreadable("tls", certificate, error)) from None
    except ValueError:
        text = f"tls.key: {key} is locked by a pass phrase; write the key without one (openssl pkey)"
        raise CertificateError(text) from None
    return context


def _no_password() -> str:
    """Else OpenSSL would ask at the terminal."""
    raise ValueError
