"""Certificates of every kind: an authority of the test's own, what it issued, and what goes wrong with them.

authority = Authority()
pair = authority.issue("mx.example.net", "127.0.0.1")   # also expired=True, or other names than the server's
certificate, key = pair.write(tmp_path)                 # two PEM files
server = pair.server()                                  # an SSLContext that shows it
client = authority.client()                             # an SSLContext that trusts this authority only
"""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key, as PEM; ends: when it is no longer valid, in epoch
    seconds."""

    certificate: bytes
    key: bytes

    @property
    def ends(self) -> float:
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc.timestamp()

    def write(self, directory: Path, name: str = "tls") -> tuple[Path, Path]:
        """directory/name.crt and directory/name.key, each replaced at once."""
        paths = directory / f"{name}.crt", directory / f"{name}.key"
        for path, text in zip(paths, (self.certificate, self.key), strict=True):
            replace(path, text)
        return paths

    def server(self) -> ssl.SSLContext:
        """A context for servers: it shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as directory:
            context.load_cert_chain(*self.write(Path(directory)))
        return context


class Authority:
    """Signs certificates. Two authorities do not know each other."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    @property
    def pem(self) -> bytes:
        return self._ca.cert_pem.bytes()

    def write(self, directory: Path, name: str = "ca.pem") -> Path:
        """A file for `ca_file`."""
        replace(directory / name, self.pem)
        return directory / name

    def issue(self, *names: str, expired: bool = False, days: float = 30) -> Pair:
        """For these host names and addresses; valid for so many days from now, or since yesterday no more."""
        now = datetime.now(UTC)
        begins, ends = (now - 9 * DAY, now - DAY) if expired else (now - DAY, now + days * DAY)
        made = self._ca.issue_cert(*names, not_before=begins, not_after=ends)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        return Pair(chain, made.private_key_pem.bytes())

    def client(self) -> ssl.SSLContext:
        """A context for clients: trusts this authority only, and looks at the name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context


def self_signed(name: str) -> Pair:
    """Good in everything but that nobody vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), text)


@cache
def authority() -> Authority:
    """One for all tests of a process that need nothing special."""
    return Authority()


def replace(path: Path, text: bytes) -> None:
    """As a renewal does it: never half a file, never the old inode."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(text)
    new.replace(path)
