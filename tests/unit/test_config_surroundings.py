"""What a configuration meets on a machine: which of it is told, and when the relay must not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config.model import Config
from relay.config.mounts import Mount, holder, parse
from relay.config.problem import Problem
from relay.config.surroundings import FileFacts, Surroundings, refusal, warnings

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 UTC
SPOOL = Path("/var/spool/relay")
DISK = Mount("/var/spool/relay", "ext4")


def told(here: Surroundings, **config: Any) -> list[str]:
    return warnings(Config.model_validate({"hostname": "relay.example.com", **config}), here, NOW)


def test_nothing_is_said_of_what_is_well_or_not_known() -> None:
    """A local disk, or a system that does not tell."""
    assert told(Surroundings()) == []
    assert told(Surroundings(mount=DISK)) == []
    assert told(Surroundings(mount=Mount("/", "ext4"))) == []


# --- the spool


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("tmpfs", "which a restart empties"),
        ("ramfs", "which a restart empties"),
        ("overlay", "the container's own layer"),
        ("aufs", "the container's own layer"),
        ("fuse.fuse-overlayfs", "the container's own layer"),
    ],
)
def test_a_spool_that_a_restart_empties(kind: str, words: str) -> None:
    """The relay refuses to start and says what to do, the check says so before; allowed: one warning."""
    here = Surroundings(mount=Mount("/var", kind))
    reason = refusal(Config(), here.mount)
    assert reason.startswith(f"spool: {SPOOL} lies on {kind}, {words}")
    assert "mount a volume" in reason and "allow_volatile_spool: true" in reason
    assert told(here) == [f"{reason}; `relay run` refuses to start"]

    assert refusal(Config(allow_volatile_spool=True), here.mount) == ""
    (text,) = told(here, allow_volatile_spool=True)
    assert text.startswith(f"spool: {SPOOL} lies on {kind}, {words}") and "refuses" not in text


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs"])
@pytest.mark.parametrize("allowed", [False, True])
def test_a_spool_on_a_network_file_system(kind: str, allowed: bool) -> None:
    """A warning only, whatever is allowed: it may survive a restart and be damaged all the same."""
    here = Surroundings(mount=Mount("/srv", kind))
    (text,) = told(here, spool="/srv/relay", allow_volatile_spool=allowed)
    assert text.startswith(f"spool: /srv/relay lies on {kind}: a network file system")
    assert refusal(Config(), here.mount) == ""


OUTSIDE = [{"address": "0.0.0.0:2525"}]
ROOT = Mount("/", "btrfs")
EMPTY_DIR = Mount("/var/spool/relay", "ext4", "/lib/kubelet/pods/1-2/volumes/kubernetes.io~empty-dir/spool")


@pytest.mark.parametrize(
    ("mount", "container", "words"),
    [
        (ROOT, True, "the container's own file system"),
        (ROOT, False, ""),
        (DISK, True, ""),
        (EMPTY_DIR, True, "an emptyDir volume"),
    ],
)
def test_a_spool_that_goes_with_its_container(mount: Mount, container: bool, words: str) -> None:
    """What its type alone does not tell: a warning, and none when it is allowed."""
    here = Surroundings(container, mount=mount)
    more: dict[str, Any] = {"listeners": OUTSIDE, "trusted_networks": ["10.0.0.0/8"]}
    found = told(here, **more)
    assert [text.startswith(f"spool: {SPOOL} lies on {words}") for text in found] == [True] * bool(words)
    assert told(here, allow_volatile_spool=True, **more) == []


# --- the network of a container


def test_a_container_that_can_reach_nobody() -> None:
    """Every listener on its loopback; outside of a container that is the good default."""
    (text,) = told(
        Surroundings(container=True), listeners=[{"address": "[::1]:25"}, {"address": "127.0.0.1:26"}]
    )
    assert text.startswith("listeners: in a container [::1]:25 is reached by") and "0.0.0.0:25" in text
    more: dict[str, Any] = {
        "listeners": [{"address": "[::1]:25"}, *OUTSIDE],
        "trusted_networks": ["10.0.0.0/8"],
    }
    assert told(Surroundings(container=True), **more) == []


@pytest.mark.parametrize(
    ("change", "is_told"),
    [
        ({}, True),
        ({"trusted_networks": ["10.0.0.0/8"]}, False),
        ({"listeners": [OUTSIDE[0] | {"tls": "implicit", "auth": "required"}]}, False),
        ({"trusted_networks": ["0.0.0.0/0"]}, False),  # an open relay, and told as one
        ({"listeners": [OUTSIDE[0] | {"proxy_from": ["172.17.0.9"]}]}, True),
    ],
)
def test_everybody_behind_the_gateway_is_trusted(change: dict[str, Any], is_told: bool) -> None:
    """Connections to a published port may come from the gateway of the container's network."""
    config = {"listeners": OUTSIDE, "trusted_networks": ["10.0.0.0/8", "172.16.0.0/12"], **change}
    found = told(Surroundings(True, "172.17.0.1"), **config)
    start = "trusted_networks: 172.16.0.0/12 holds 172.17.0.1, the gateway"
    assert [text.startswith(start) for text in found if "gateway" in text] == [True] * is_told
    assert not any("gateway" in text for text in told(Surroundings(False, "172.17.0.1"), **config))


# --- files

ROUTE = {
    "via": ["smtp.example.net"], "username": "relay", "ca_file": "/ca",
    "oauth": {
        "token_url": "https://x.example/", "client_id": "c",
        "client_secret_file": "/c", "refresh_token_file": "/r",
    },
}  # fmt: skip
NAMED: dict[str, Any] = {
    "routes": [{"to": ["a.example"], "via": ["b.example"], "username": "u", "password_file": "/p"}, ROUTE],
    "mx": {"ca_file": "/mx"},
    "listeners": [{"tls": "starttls"}],
    "tls": {"certificate": "/crt", "key": "/key"},
}
SECRETS = {
    "/p": "routes.0.password_file",
    "/c": "routes.1.oauth.client_secret_file",
    "/r": "routes.1.oauth.refresh_token_file",
}


@pytest.mark.parametrize(
    ("path", "key"), [*SECRETS.items(), ("/ca", "routes.1.ca_file"), ("/mx", "mx.ca_file")]
)
def test_a_file_that_is_of_no_use(path: str, key: str) -> None:
    """Named with its key."""
    assert told(Surroundings(files={Path(path): FileFacts("it is empty")}), **NAMED) == [
        f"{key}: {path}: it is empty"
    ]


@pytest.mark.parametrize(("path", "key"), [*SECRETS.items(), ("/key", "tls.key")])
def test_a_secret_that_everybody_can_read(path: str, key: str) -> None:
    """In a container there is nobody else: secrets are mounted there for all to read."""
    files = {Path(path): FileFacts(open=True)}
    (text,) = told(Surroundings(files=files), **NAMED)
    assert text.startswith(f"{key}: everybody on this machine can read {path}")
    outside = {
        "listeners": [{"address": "0.0.0.0:2525", "tls": "starttls"}],
        "trusted_networks": ["10.0.0.0/8"],
    }
    assert told(Surroundings(True, files=files), **NAMED | outside) == []


def test_certificates_are_for_everybody() -> None:
    files = {Path(path): FileFacts(open=True) for path in ("/ca", "/mx", "/crt")}
    assert told(Surroundings(files=files), **NAMED) == []


@pytest.mark.parametrize(
    ("days", "words"),
    [(-1.0, "it ended on 2023-11-13 22:13 UTC"), (13.9, "it ends on 2023-11-28 19:49 UTC"), (14.1, "")],
)
def test_a_certificate_near_its_end(days: float, words: str) -> None:
    """Two weeks are left to renew it."""
    found = told(Surroundings(certificate=NOW + days * 86400))
    assert [text.startswith(f"tls.certificate: {words}; ") for text in found] == [True] * bool(words)


def test_a_certificate_that_cannot_be_used() -> None:
    assert told(Surroundings(certificate="tls.key: why")) == ["tls.key: why"]


@pytest.mark.parametrize(
    ("readable", "container", "words"),
    [
        (False, False, "a secret stands in the file"),
        (True, False, "everybody"),
        (True, True, "a secret stands"),
    ],
)
def test_a_secret_in_the_configuration(readable: bool, container: bool, words: str) -> None:
    """At its place, with what to write instead."""
    place = Problem("relay.yaml", 3, 5, "routes.0.password", "write password_file:")
    here = Surroundings(container, written=(place,), readable=readable)
    text = told(here, listeners=OUTSIDE, trusted_networks=["10.0.0.0/8"])[-1]
    assert text.startswith(f"relay.yaml:3:5: routes.0.password: {words}")
    assert text.endswith("; write password_file:")


# --- mounts

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime master:1 shared:2 - overlay overlay rw,lowerdir=/a
31 27 8:1 /data/relay\040spool /var/spool/relay rw - ext4 /dev/sda1 rw
32 27 0:40 / /var/spool rw - nfs4 host:/x rw
33 31 0:41 / /mnt/a\040b\134c rw - tmpfs tmpfs rw
34 27 0:42 / /mnt/over rw - ext4 /dev/sdb rw
35 27 0:43 / /mnt/over rw - tmpfs tmpfs rw
a line of no such form
36 27 0:44 / /short -
""".lstrip()


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/var/spool/relay", Mount("/var/spool/relay", "ext4", "/data/relay spool")),
        ("/var/spool/relay/not/there/yet", Mount("/var/spool/relay", "ext4", "/data/relay spool")),
        ("/var/spool/relay2", Mount("/var/spool", "nfs4")),
        ("/var/lib/relay", Mount("/", "overlay")),
        ("/", Mount("/", "overlay")),
        ("/mnt/a b\\c/x", Mount("/mnt/a b\\c", "tmpfs")),
        ("/mnt/over/x", Mount("/mnt/over", "tmpfs")),
    ],
)
def test_the_mount_that_holds_a_path(path: str, mount: Mount) -> None:
    """The deepest; of two at the same place the later, which hides the other; escapes undone."""
    assert holder(parse(MOUNTINFO), path) == mount


def test_no_mount_is_known() -> None:
    """Another system, or a root directory of one's own."""
    assert holder(parse(""), "/var") is None
    assert holder([Mount("/proc", "proc")], "/var") is None
