"""Which files with secrets everybody can read: one rule, one text."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.exposure import open_machine

from relay import exposure
from relay.config import machine
from relay.config.model import Config, Route
from relay.config.surroundings import FileFacts, Surroundings, warnings
from relay.delivery.secret import Secrets
from relay.observe.events import Events
from relay.users.reading import read_users


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that everybody can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="relay-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize(
    ("environ", "files", "found"),
    [
        ({}, (), False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), True),
        ({"container": "podman"}, (), True),
        ({"container": ""}, (), False),
        ({}, ("/.dockerenv",), True),
        ({}, ("/run/.containerenv",), True),
    ],
)
def test_a_container(environ: dict[str, str], files: tuple[str, ...], found: bool) -> None:
    """By what Docker, Podman and Kubernetes leave behind."""
    assert exposure.in_container(environ, files.__contains__) is found


@pytest.mark.parametrize("contained", [False, True])
@pytest.mark.parametrize(
    ("mode", "above", "found"), [(0o644, 0o755, True), (0o640, 0o755, False), (0o644, 0o750, False)]
)
def test_who_can_read_it(
    folder: Path, mode: int, above: int, found: bool, contained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readable, and every directory above can be entered; links do not change that. In a container nobody
    else is there."""
    secret, link = folder / "secret", folder / "link"
    secret.write_text("geheim")
    secret.chmod(mode)
    link.symlink_to(secret)
    folder.chmod(above)
    assert exposure.open_to_all(link) is found
    assert machine.look_at(link, "secret").open is found
    assert exposure.open_to_all(folder / "none") is False
    monkeypatch.setattr(exposure, "in_container", lambda *_: contained)
    assert exposure.exposed(link) is (found and not contained)


def test_all_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`relay check` of a route's secret, the relay when it reads one, `relay user` and the relay of users."""
    open_machine(monkeypatch)
    file = tmp_path / "secret"
    file.write_text("geheim\n")
    file.chmod(0o644)
    said: list[str] = []
    events = Events()
    monkeypatch.setattr(events.log, "write", lambda level, part, event, text, **fields: said.append(text))
    Secrets(events.secret_exposed).read(file)
    words = f"everybody on this machine can read {file}; take that right away (chmod o= FILE)"
    assert said == [f"warning: {words}"]
    assert read_users(file).remarks[-1] == words
    config = Config(routes=(Route(name="a", via="a.example", username="u", password_file=file),))
    told = warnings(config, Surroundings(files={file: FileFacts(open=True)}), 0.0)
    assert f"routes.0.password_file: {words}" in told
