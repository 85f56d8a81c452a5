"""The TLS contexts of outgoing sessions: whose certificates count."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

from relay.delivery.secret import Stamp, stamp


class NoTrust(Exception):
    """A ca_file that cannot be used. The text says which and why."""


class Trust:
    """One for all routes. A ca_file is read again when it has changed."""

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[Stamp | None, ssl.SSLContext]] = {}

    def context(self, verify: bool, ca_file: Path | None = None) -> ssl.SSLContext:
        """TLS 1.2 or later. verify: the certificate must be signed by one of ca_file, or of the system's list
        without it, and be for the host's name; else any will do. NoTrust."""
        if not verify or ca_file is None:
            return _context(verify)
        now = stamp(ca_file)
        kept = self._kept.get(ca_file)
        if kept is None or kept[0] != now:
            kept = self._kept[ca_file] = now, _of_file(ca_file)
        return kept[1]


@cache
def _context(verify: bool) -> ssl.SSLContext:
    """verify False: any certificate will do (RFC 7435, opportunistic security)."""
    if verify:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _of_file(path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise NoTrust(f"ca_file {path}: no certificates in PEM form in it") from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "not a path").lower()
        raise NoTrust(f"ca_file {path}: {reason}") from None
