"""What the configuration meets on this machine that is probably not meant, or must not be run. Pure: what
there is to be seen, machine.py has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal

from relay import exposure
from relay.config import access, cautions
from relay.config.model import Config
from relay.config.mounts import Mount
from relay.config.problem import Problem

CERTIFICATE_DAYS = 14  # of warning before a certificate ends
DAY = 86400.0
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})
LAYERS = frozenset({"overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs"})  # of a container's image
NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.ceph", "glusterfs", "fuse.glusterfs",
    "lustre", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone",
})  # fmt: skip
Kind = Literal["secret", "certificates"]
EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """trouble: why it is of no use, "" when it is; open: everybody on this machine can read it."""

    trouble: str = ""
    open: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """container: this process runs in one; gateway: the default one of its network, "" when there is none or
    it is not known; mount: what the spool lies on, None when that is not known; files: those that the
    configuration names; written: secrets in the configuration file, what to do about each; readable:
    everybody can read that file; certificate: what is wrong with the pair, or until when it is valid (epoch
    seconds)."""

    container: bool = False
    gateway: str = ""
    mount: Mount | None = None
    files: Mapping[Path, FileFacts] = field(default_factory=dict)
    written: tuple[Problem, ...] = ()
    readable: bool = False
    certificate: str | float | None = None


def warnings(config: Config, here: Surroundings, now: float) -> list[str]:
    """One line each, those of the configuration alone included. now: seconds since the epoch."""
    return [
        *cautions.warnings(config),
        *_network(config, here),
        *_spool(config, here),
        *_files(config, here),
        *_certificate(here, now),
        *_written(here),
    ]


def refusal(config: Config, mount: Mount | None) -> str:
    """Why `relay run` must not start with its spool on this mount, "" when it may."""
    kind = mount.kind if mount else ""
    if config.allow_volatile_spool or kind not in MEMORY | LAYERS:
        return ""
    text = f"spool: {config.spool} lies on {kind}, {_fate(kind)}: accepted mail would be lost"
    return f"{text}; mount a volume or a disk there, or write allow_volatile_spool: true if that is meant"


def _fate(kind: str) -> str:
    return "which a restart empties" if kind in MEMORY else "the container's own layer, which goes with it"


def _network(config: Config, here: Surroundings) -> Iterator[str]:
    if not here.container:
        return
    if all(access.on_loopback(each.address) for each in config.listeners):
        address = config.listeners[0].address
        text = f"listeners: in a container {address} is reached by what shares its network and by nobody else"
        port = address.rpartition(":")[2]
        yield f"{text}; write address: 0.0.0.0:{port} and the trusted_networks"
    doors = access.by_address(config)
    if not doors or not here.gateway:
        return
    gateway = ip_address(here.gateway)
    for text in config.trusted_networks:
        network = ip_network(text)
        if gateway in network and not access.is_wide(network):
            text = f"trusted_networks: {text} holds {gateway}, the gateway of this container's network"
            text += ": whoever reaches a published port may seem to come from there"
            yield f"{text}; publish it to your services only, or write auth: required"
            return


def _spool(config: Config, here: Surroundings) -> Iterator[str]:
    mount = here.mount
    refused = refusal(config, mount)
    if refused:
        yield f"{refused}; `relay run` refuses to start"
    if refused or mount is None:
        return
    where = f"spool: {config.spool} lies on"
    if mount.kind in MEMORY | LAYERS:
        yield f"{where} {mount.kind}, {_fate(mount.kind)} (allow_volatile_spool: true)"
    elif mount.kind in NETWORK:
        text = f"{where} {mount.kind}: a network file system may break its locks and syncs"
        yield f"{text}; write the path of a local disk"
    elif config.allow_volatile_spool:
        return
    elif EMPTY_DIR in mount.root:
        yield f"{where} an emptyDir volume, which is deleted with its pod; mount a persistent volume"
    elif here.container and mount.point == "/":
        yield f"{where} the container's own file system, which goes with it; mount a volume there"


def named_files(config: Config) -> Iterator[tuple[str, Path, Kind]]:
    """The files that are used when mail is sent, and the key of the listeners: key, path, what it holds."""
    files: list[tuple[str, Path | None, Kind]] = [
        ("tls.key", config.tls.key, "secret"),
        ("mx.ca_file", config.mx.ca_file, "certificates"),
    ]
    for place, route in enumerate(config.routes):
        key = f"routes.{place}"
        files += [
            (f"{key}.ca_file", route.ca_file, "certificates"),
            (f"{key}.password_file", route.password_file, "secret"),
        ]
        if route.oauth is not None:
            files += [
                (f"{key}.oauth.client_secret_file", route.oauth.client_secret_file, "secret"),
                (f"{key}.oauth.refresh_token_file", route.oauth.refresh_token_file, "secret"),
            ]
    for name, path, kind in files:
        if path is not None:
            yield name, path, kind


def _files(config: Config, here: Surroundings) -> Iterator[str]:
    for key, path, kind in named_files(config):
        facts = here.files.get(path, FileFacts())
        if facts.trouble and key != "tls.key":  # of the pair _certificate says more
            yield f"{key}: {path}: {facts.trouble}"
        if facts.open and kind != "certificates" and not here.container:  # mounted secrets are: 0444
            yield f"{key}: {exposure.warning(path)}"


def _certificate(here: Surroundings, now: float) -> Iterator[str]:
    ends = here.certificate
    if isinstance(ends, str):
        yield ends
    elif ends is not None and ends - now < CERTIFICATE_DAYS * DAY:
        date = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%d %H:%M UTC")
        yield f"tls.certificate: it {'ended' if ends < now else 'ends'} on {date}; put a new one in its place"


def _written(here: Surroundings) -> Iterator[str]:
    for problem in here.written:
        open_ = here.readable and not here.container
        what = "everybody on this machine can read this secret" if open_ else "a secret stands in the file"
        yield str(replace(problem, text=f"{what}; {problem.text}"))
