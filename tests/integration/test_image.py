"""deploy/Dockerfile: built for real, without a registry, and run as it would be by Docker: `make image`.

It takes a minute or two, so it is skipped where RELAY_IMAGE=1 does not ask for it; hadolint always reads it.
"""

from __future__ import annotations

import asyncio
import os
import re
import smtplib
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.certificates import authority
from fakes.image import DOCKERFILE, Container, Image
from fakes.logins import SECRET, Logins
from fakes.ports import ReservedPort
from fakes.scripted_server import EXTENSIONS, ScriptedServer

WANTED = os.environ.get("RELAY_IMAGE") == "1"
MB = 1_000_000
LARGEST = 90 * MB  # beside the base: the packages and the relay, compiled
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
built = pytest.mark.skipif(not WANTED, reason="takes minutes: make image")


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, file], capture_output=True, text=True, timeout=60, check=False)


def test_hadolint_finds_nothing_wrong(tmp_path: Path) -> None:
    """Not one finding; a file that has one is seen."""
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.read_text().replace("WORKDIR /src", "RUN cd /src"))
    assert "DL3003" in hadolint(tmp_path / "Dockerfile").stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    made = Image.build(tmp_path_factory.mktemp("image"))
    print(f"\nbuilt in {made.seconds:.0f} s; {size(made.root / 'opt/relay') / MB:.0f} MB beside its base")
    yield made
    made.remove()


def size(folder: Path) -> int:
    """Octets of the files below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """For mail and for the admin side: the network is the machine's."""
    made = ReservedPort(), ReservedPort()
    yield made[0].port, made[1].port
    for each in made:
        each.close()


def variables(ports: tuple[int, int], **more: str) -> dict[str, str]:
    return {
        "RELAY__HOSTNAME": "relay.example",
        "RELAY__LISTENERS__0__ADDRESS": f"127.0.0.1:{ports[0]}",
        "RELAY__ADMIN__ADDRESS": f"127.0.0.1:{ports[1]}",
        "RELAY__LIMITS__SPOOL_RESERVE": "1MiB",
        "RELAY__ALLOW_VOLATILE_SPOOL": "true",  # the test's directory may lie in memory
        **more,
    }


def wait_until(container: Container, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not {what} in time: {container.log()}"
        time.sleep(0.05)


def healthy(container: Container) -> bool:
    return container.run(*health_check(container)).returncode == 0


def health_check(container: Container) -> list[str]:
    kind, *command = container.image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    return [str(word) for word in command]


@built
@pytest.mark.timeout(900)
def test_it_is_small_and_says_how_to_run_it(image: Image) -> None:
    """A numeric user, one volume, both ports; nothing of the build is left in it."""
    assert size(image.root / "opt/relay") < LARGEST
    own = image.config
    assert own["User"] == "10001:10001" and list(own["Volumes"]) == ["/var/spool/relay"]
    assert set(own["ExposedPorts"]) == {"2525/tcp", "9525/tcp"}
    assert not (image.root / "src").exists() and not list((image.root / "opt/relay").rglob("pip"))
    volume = (image.root / "var/spool/relay").stat()
    assert (volume.st_uid, volume.st_mode & 0o7777) == (10001, 0o700)


@built
def test_without_a_configuration_it_keeps_to_itself(image: Image, tmp_path: Path) -> None:
    """Loopback only, and `relay check` says that nobody outside reaches it."""
    with image.container(tmp_path, {"container": "docker"}, "check") as container:
        assert container.wait() == 0, container.log()
    assert re.search(r"listener +127\.0\.0\.1:2525 ", container.log())
    assert "warning: listeners: in a container 127.0.0.1:2525" in container.log()


@built
def test_mail_by_a_smarthost_from_variables_alone(
    image: Image, ports: tuple[int, int], tmp_path: Path
) -> None:
    """As user 10001, with a read-only root and a password file: over verified TLS, logged in. True health,
    the log on the output, no zombies; SIGTERM to the first process ends it with 0."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    authority().write(secrets)
    (secrets / "smarthost").write_text(SECRET + "\n")
    hop_names = (*EXTENSIONS, "STARTTLS", "AUTH PLAIN LOGIN")
    context = authority().issue("127.0.0.1").server()

    async def relayed() -> None:
        async with ScriptedServer({}, hop_names, context=context, logins=Logins("relay", SECRET)) as hop:
            environment = variables(
                ports,
                RELAY__ROUTES__0__NAME="smarthost",
                RELAY__ROUTES__0__VIA=f"127.0.0.1:{hop.port}",
                RELAY__ROUTES__0__USERNAME="relay",
                RELAY__ROUTES__0__PASSWORD_FILE="/run/secrets/smarthost",
                RELAY__ROUTES__0__CA_FILE=f"/run/secrets/{next(secrets.glob('*.pem')).name}",
            )
            await asyncio.to_thread(use, environment, hop)

    def use(environment: dict[str, str], hop: ScriptedServer) -> None:
        with image.container(tmp_path, environment) as container:
            wait_until(container, lambda: healthy(container), "healthy")
            send(ports[0])
            wait_until(container, lambda: len(hop.contents) == 1, "delivered")
            assert container.run("relay", "queue", "list").returncode == 0
            only_the_volume(container)
            no_zombies(container)
            assert container.stop() == 0
        assert "status=sent" in container.log()
        assert {path.stat().st_uid for path in container.volume.rglob("*")} == {10001}

    asyncio.run(relayed())


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail("a@sender.example", ["b@example.org"], b"Subject: x\r\n\r\nbody\r\n")


def only_the_volume(container: Container) -> None:
    """Its first process is user 10001 without a capability, and may write to the volume only."""
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert re.search(r"^Uid:\s+10001\s+10001\s", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    for place, writable in (("/var/spool/relay", True), ("/tmp", False), ("/opt/relay", False), ("/", False)):
        done = container.run("sh", "-c", f"touch {place}/x && rm {place}/x")
        assert (done.returncode == 0) == writable, done.stderr


def no_zombies(container: Container) -> None:
    """Who lost its parent to the first process is gone when it has ended."""
    assert container.run("sh", "-c", "(sleep 0.1 &)").returncode == 0
    state = "cat /proc/[0-9]*/stat"
    wait_until(container, lambda: "(sleep)" not in container.run("sh", "-c", state).stdout, "rid of it")
    assert ") Z " not in container.run("sh", "-c", state).stdout


@built
def test_its_health_is_true(image: Image, ports: tuple[int, int], tmp_path: Path) -> None:
    """Unhealthy, with the reason, while it can take no mail."""
    environment = variables(ports, RELAY__LIMITS__SPOOL_RESERVE="1024TiB")
    with image.container(tmp_path, environment) as container:
        wait_until(container, lambda: "accepts mail on" in container.log(), "started")
        done = container.run(*health_check(container))
        assert done.returncode == 1 and "too little free space" in done.stderr
        assert container.stop() == 0


@built
def test_a_spool_without_a_volume_is_refused(image: Image, ports: tuple[int, int], tmp_path: Path) -> None:
    """Mail in the container's own layer would go with it."""
    environment = {key: value for key, value in variables(ports).items() if "VOLATILE" not in key}
    with image.container(tmp_path, environment | {"RELAY__SPOOL": "/dev/spool"}) as container:
        assert container.wait() == 78
    assert "accepted mail would be lost" in container.log()


@built
def test_two_of_one_volume(image: Image, ports: tuple[int, int], tmp_path: Path) -> None:
    """The second one ends and says why."""
    with image.container(tmp_path, variables(ports)) as first:
        wait_until(first, lambda: healthy(first), "healthy")
        with image.container(tmp_path, variables(ports)) as second:
            assert second.wait() == 75
