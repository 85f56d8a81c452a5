"""Where the secrets of a login lie: a full path, or the directory of the service manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.cautions import warnings
from relay.config.load import load
from relay.config.model import Config
from relay.config.problem import ConfigErrors

TEXT = """
hostname: relay.example.com
routes:
  - via: "smtp.example.net:587"
    to: [a.example]
    username: relay
    password_file: smarthost
  - via: "smtp.example.net:587"
    username: relay
    oauth:
      token_url: https://login.example.com/token
      client_id: "1"
      client_secret_file: /etc/relay/client
      refresh_token_file: refresh
"""


def loaded(tmp_path: Path, environ: dict[str, str], text: str = TEXT) -> Config:
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    return load(file, environ)


def test_relative_files_lie_in_the_credentials_directory(tmp_path: Path) -> None:
    """systemd's LoadCredential=smarthost:...; a full path stays as it is."""
    first, second = loaded(tmp_path, {"CREDENTIALS_DIRECTORY": "/run/credentials/relay.service"}).routes
    assert first.password_file == Path("/run/credentials/relay.service/smarthost")
    assert second.oauth is not None
    assert second.oauth.client_secret_file == Path("/etc/relay/client")
    assert second.oauth.refresh_token_file == Path("/run/credentials/relay.service/refresh")


@pytest.mark.parametrize("environ", [{}, {"CREDENTIALS_DIRECTORY": ""}, {"CREDENTIALS_DIRECTORY": "here"}])
def test_without_one_they_are_an_error(tmp_path: Path, environ: dict[str, str]) -> None:
    """The working directory of a service is nobody's idea of a place for secrets."""
    with pytest.raises(ConfigErrors) as caught:
        loaded(tmp_path, environ)
    assert [problem.key for problem in caught.value.problems] == [
        "routes.0.password_file",
        "routes.1.oauth.refresh_token_file",
    ]


def test_a_ca_file_that_nobody_reads_is_told(tmp_path: Path) -> None:
    """Who writes it believes that certificates are looked at."""
    text = "routes: [{via: 'smtp.example.net:587', tls: require, ca_file: /etc/relay/ca.pem}]\n"
    told = warnings(loaded(tmp_path, {}, text))
    assert "routes.0.ca_file: not used with tls: require; write tls: verify" in told
    assert not [
        line
        for line in warnings(loaded(tmp_path, {}, text.replace("require", "verify")))
        if "ca_file" in line
    ]
