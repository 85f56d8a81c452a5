"""Looks at this machine for what surroundings.py judges. Reads the disk; never raises, never waits long."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from relay.config import schema, surroundings
from relay.config.document import Node
from relay.config.load import tree_of
from relay.config.model import Config, Tls
from relay.config.mounts import Mount, holder, parse
from relay.config.problem import ConfigErrors, Problem, dotted
from relay.config.problem import Path as KeyPath
from relay.config.surroundings import FileFacts, Kind, Surroundings, named_files
from relay.exposure import in_container, open_to_all
from relay.front import certificate

DEFAULT_ROUTE = ("00000000", 0x2)  # destination; the flag that says it goes by a gateway


def look(config: Config, file: Path | None, environ: Mapping[str, str]) -> Surroundings:
    """file: the configuration's, None for the defaults. A secret without a full path is the service
    manager's, which may be known to the service alone."""
    container = in_container(environ, os.path.exists)
    return Surroundings(
        container,
        default_gateway(_text("/proc/self/net/route")) if container else "",
        mount_of(config.spool),
        {
            path: look_at(path, kind)
            for _, path, kind in named_files(config)
            if kind != "secret" or path.is_absolute()
        },
        tuple(written(file)) if file else (),
        open_to_all(file) if file else False,
        certificate_of(config.tls),
    )


def warnings(config: Config, file: Path | None, environ: Mapping[str, str]) -> list[str]:
    """What is odd about the configuration here and now, one line each."""
    return surroundings.warnings(config, look(config, file, environ), time.time())


def default_gateway(table: str) -> str:
    """/proc/net/route -> the address of the IPv4 gateway, "" without one."""
    destination, by_gateway = DEFAULT_ROUTE
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[1] == destination and int(fields[3], 16) & by_gateway:
            return str(IPv4Address(bytes.fromhex(fields[2])[::-1]))  # little-endian
    return ""


def mount_of(path: Path) -> Mount | None:
    """What a path lies on, also one that is not there yet; None where the system does not tell."""
    return holder(parse(_text("/proc/self/mountinfo")), os.path.realpath(path))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="surrogateescape")
    except OSError:
        return ""


def certificate_of(tls: Tls) -> str | float | None:
    """What is wrong with the pair, or until when it is valid (epoch seconds); None without one."""
    if tls.certificate is None or tls.key is None:
        return None
    try:
        return certificate.load(tls.certificate, tls.key).ends
    except certificate.CertificateError as error:
        return str(error)


def look_at(path: Path, kind: Kind) -> FileFacts:
    try:
        content = path.read_bytes()
    except OSError as error:
        return FileFacts(_unreadable(error))
    trouble = ""
    if kind == "secret" and not content.strip():
        trouble = "it is empty; write the secret into it"
    elif kind == "certificates" and not _are_certificates(content):
        trouble = "no certificate can be read in it; write the name of a PEM file"
    return FileFacts(trouble, open_to_all(path))


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; write the path of one"
    if isinstance(error, PermissionError):
        return "this user cannot read it; let the relay's user read it"
    return f"it cannot be read ({(error.strerror or str(error)).lower()}); write the path of a file"


def _are_certificates(content: bytes) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("latin-1"))
    except (ssl.SSLError, ValueError):
        return False
    return True


def written(file: Path) -> list[Problem]:
    """Secrets that stand in the configuration file, in its order; the environment does not count."""
    try:
        root, _ = tree_of(file)
    except ConfigErrors:
        return []
    return [
        Problem(str(file), line, column, dotted(path), _elsewhere(path))
        for path, line, column in _secrets(root, ())
    ]


def _secrets(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, int, int]]:
    if isinstance(node.value, list):
        for place, item in enumerate(node.value):
            yield from _secrets(item, (*path, place))
    elif isinstance(node.value, dict):
        for key, child in node.value.items():
            if key in schema.SECRETS and child.raw:
                yield (*path, key), *node.keys[key]
            else:
                yield from _secrets(child, (*path, key))


def _elsewhere(path: KeyPath) -> str:
    variable = "__".join(("RELAY_", *map(str, path))).upper().replace("RELAY___", "RELAY__")
    return f"write {path[-1]}_file: with the path of a file that holds it, or set {variable}"
