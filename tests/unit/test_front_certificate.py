"""The certificate of the listeners: what can be loaded, what it offers, how it is swapped while running."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fakes.certificates import Pair, authority, replace, self_signed
from fakes.front import NOW, RecordingEvents
from fakes.tools import require_tool

from relay.front.certificate import CertificateError, load
from relay.front.certificate_watch import CertificateWatch
from relay.front.validity import not_after

NAME = "relay.example.com"


# --- loading


def test_what_a_context_offers(tmp_path: Path) -> None:
    """TLS 1.2 and newer, forward secrecy, our order, no tickets, no compression, no renegotiation."""
    context = load(*authority().issue(NAME).write(tmp_path)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0
    for option in ("TICKET", "COMPRESSION", "RENEGOTIATION"):
        assert context.options & getattr(ssl, f"OP_NO_{option}")
    assert context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert names and all(name.startswith(("TLS_", "ECDHE-")) for name in names)
    assert context.verify_mode is ssl.CERT_NONE


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    """Of the first in the file; other text around it does not matter."""
    for pair in (authority().issue(NAME, days=77), self_signed(NAME), authority().issue(NAME, expired=True)):
        files = pair.write(tmp_path)
        assert load(*files).ends == pair.ends
        replace(files[0], b"Bag Attributes\n    friendlyName: x\n" + pair.certificate + authority().pem)
        assert load(*files).ends == pair.ends


@pytest.mark.parametrize("year", [1999, 2049, 2050, 2300])
def test_years_of_two_and_of_four_digits(year: int) -> None:
    """RFC 5280 section 4.1.2.5; 1950 is the first year of two digits."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    end = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - timedelta(days=400))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    assert not_after(made.public_bytes(serialization.Encoding.PEM).decode()) == end.timestamp()


def test_a_damaged_certificate() -> None:
    """Cut or changed anywhere: ValueError or some number, nothing else."""
    der = ssl.PEM_cert_to_DER_cert(authority().issue(NAME).certificate.decode().partition("-----END CERT")[0]
                                   + ssl.PEM_FOOTER)  # fmt: skip
    for place in range(200):
        for damaged in (der[:place], der[:place] + bytes((der[place] ^ 0xFF,)) + der[place + 1 :]):
            try:
                assert isinstance(not_after(ssl.DER_cert_to_PEM_cert(damaged)), float)
            except ValueError:
                continue


CHAIN = "write the name of a PEM file, the certificate first, then its chain"
WRONG = {
    "no certificate": "tls.certificate: cannot read no.crt: No such file or directory; name one that exists",
    "no key": "tls.key: cannot read no.key: No such file or directory; name one that exists",
    "a directory": "tls.key: cannot read .: Is a directory; name one that exists",
    "another key": "tls.key: other.key is not the key of tls.crt; name the two files of one pair",
    "swapped": f"tls.certificate: no certificate in tls.key; {CHAIN}",
    "no PEM key": "tls.key: no key in tls.crt; write the name of a PEM file with the private key",
    "locked": "tls.key: locked.key is locked by a pass phrase; write the key without one (openssl pkey)",
    "broken": f"tls.certificate: broken.crt: not a certificate; {CHAIN}",
}


@pytest.mark.parametrize("name", WRONG)
def test_pairs_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Which file, why, and what to do; nothing of a key is told."""
    monkeypatch.chdir(tmp_path)
    here = Path()
    pair = authority().issue(NAME)
    certificate, key = pair.write(here)
    authority().issue(NAME).write(here, "other")
    Path("locked.key").write_bytes(locked(pair))
    Path("broken.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    files = {
        "no certificate": (Path("no.crt"), key),
        "no key": (certificate, Path("no.key")),
        "a directory": (certificate, here),
        "another key": (certificate, Path("other.key")),
        "swapped": (key, certificate),
        "no PEM key": (certificate, certificate),
        "locked": (certificate, Path("locked.key")),
        "broken": (Path("broken.crt"), key),
    }[name]
    with pytest.raises(CertificateError) as caught:
        load(*files)
    assert str(caught.value) == WRONG[name]


def locked(pair: Pair) -> bytes:
    key = serialization.load_pem_private_key(pair.key, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_a_key_that_may_not_be_read(tmp_path: Path) -> None:
    """The usual trouble of a service that is not root."""
    certificate, key = authority().issue(NAME).write(tmp_path)
    key.chmod(0)
    user = os.geteuid()
    if user == 0:  # who reads everything
        os.seteuid(65534)
    try:
        with pytest.raises(CertificateError, match="Permission denied; let the relay's user read it"):
            load(certificate, key)
    finally:
        os.seteuid(user)


# --- swapping


class CertificateEvents(RecordingEvents):
    """What is said about certificates."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[float, bool]] = []
        self.kept: list[str] = []

    def certificate(self, file: str, ends: float, now: float, renewed: bool) -> None:
        self.shown.append((ends, renewed))

    def certificate_kept(self, reason: str) -> None:
        self.kept.append(reason)


class Watched:
    """A pair of files that is in force; a test looks at them by `watch.look()`."""

    def __init__(self, directory: Path) -> None:
        self.events = CertificateEvents()
        self.first = authority().issue(NAME, days=10)
        self.files = self.first.write(directory)
        self.watch = CertificateWatch(self.events, lambda: NOW)
        self.watch.use(self.files, load(*self.files))
        self.before = self.watch.context

    async def look(self, times: int) -> bool:
        """Is the first pair still in force?"""
        for _ in range(times):
            await self.watch.look()
        return self.watch.context is self.before


@pytest.mark.parametrize("first", [0, 1], ids=["certificate", "key"])
@pytest.mark.parametrize(("looks", "told"), [(0, 0), (1, 0), (2, 1), (5, 1)])
async def test_a_renewed_pair_is_swapped_in(tmp_path: Path, first: int, looks: int, told: int) -> None:
    """When both files are there and match. Half-way the old one stays; what lasts is said once."""
    watched = Watched(tmp_path)
    assert await watched.look(3)
    second = authority().issue(NAME, days=20)
    texts = second.certificate, second.key
    replace(watched.files[first], texts[first])
    assert await watched.look(looks)
    assert ["is not the key of" in said for said in watched.events.kept] == [True] * told
    replace(watched.files[1 - first], texts[1 - first])
    assert not await watched.look(3)
    assert watched.events.shown == [(watched.first.ends, False), (second.ends, True)]


async def test_trouble_that_comes_back_is_said_again(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    for _ in range(2):
        watched.files[1].write_bytes(b"")
        await watched.look(3)
        authority().issue(NAME).write(tmp_path)
        await watched.look(1)
    assert len(watched.events.kept) == 2


async def test_a_renewal_with_the_same_key(tmp_path: Path) -> None:
    """The certificate alone is new and fits the key."""
    watched = Watched(tmp_path)
    key = serialization.load_pem_private_key(watched.first.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    renewed = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    replace(watched.files[0], renewed.public_bytes(serialization.Encoding.PEM))
    assert not await watched.look(1)


@pytest.mark.parametrize("way", ["missing", "empty", "garbage", "half a file"])
async def test_files_that_go_wrong(tmp_path: Path, way: str) -> None:
    """The old certificate stays in use, that is said once, and a good pair is taken again."""
    watched = Watched(tmp_path)
    if way == "missing":
        watched.files[1].unlink()
    else:
        text = {"empty": b"", "garbage": b"\0\xff" * 99, "half a file": watched.first.key[:90]}[way]
        watched.files[1].write_bytes(text)
    assert await watched.look(5)
    assert len(watched.events.kept) == 1
    authority().issue(NAME, days=20).write(tmp_path)
    assert not await watched.look(1)
    assert not watched.events.bugs


async def test_a_mount_that_swaps_a_directory(tmp_path: Path) -> None:
    """Kubernetes: the files are symbolic links into a directory that is a symbolic link itself."""
    pairs = [authority().issue(NAME, days=days) for days in (10, 20)]
    for number, pair in enumerate(pairs):
        (tmp_path / f"v{number}").mkdir()
        pair.write(tmp_path / f"v{number}")
    data = tmp_path / "..data"
    data.symlink_to("v0")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    events = CertificateEvents()
    watch = CertificateWatch(events, lambda: NOW)
    watch.use(files, load(*files))
    (tmp_path / "new").symlink_to("v1")
    (tmp_path / "new").replace(data)
    await watch.look()
    assert events.shown[1:] == [(pairs[1].ends, True)]


async def test_openssl_gets_no_ticket(tmp_path: Path) -> None:
    """As another program sees it: TLS 1.3 and 1.2 begin, and no session can be kept."""
    require_tool("openssl", "openssl")
    loaded = load(*authority().issue(NAME).write(tmp_path))
    said: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        said.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=loaded.context)
    port = server.sockets[0].getsockname()[1]
    for version in ("-tls1_3", "-tls1_2"):
        kept = tmp_path / f"session{version}"
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-sess_out", str(kept)]
        result = await asyncio.to_thread(
            subprocess.run, command, input=b"hello\n", capture_output=True, timeout=20, check=False
        )
        assert b"TLSv1" in result.stdout
        assert b"TLS session ticket:" not in result.stdout and b"New Session Ticket" not in result.stdout
        assert version == "-tls1_2" or not kept.exists()
    assert said == [b"hello\n"] * 2
    server.close()
    await server.wait_closed()
