"""A relay that clients log in to: SubmissionRelay, with a STARTTLS and an implicit-TLS listener.

    with SubmissionRelay(tmp_path, {"routes": [...]}) as relay:
        CLIENTS["curl"](relay.submission(implicit=True, mechanism="LOGIN"), ["a@example.com"])

Nobody may send without a login. Its certificate is of `authority()`, its one user made by `relay user add`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes.certificates import authority
from fakes.clients import Submission
from fakes.ports import ReservedPort
from fakes.relay_process import RelayProcess, merged

USER, PASSWORD = "app", "s3cret of the client"


class SubmissionRelay(RelayProcess):
    """config: merged over the listeners, the certificate and the users. `smtp_port` speaks STARTTLS."""

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._implicit = ReservedPort()
        self.tls_port = self._implicit.port
        self.ca = authority().write(directory)
        self._pair = authority().issue("127.0.0.1", "localhost").write(directory, "relay")
        super().__init__(directory, config, environment=environment)
        self.add_user(USER, PASSWORD)

    def configure(self, config: Mapping[str, Any]) -> None:
        certificate, key = (str(path) for path in self._pair)
        listeners = [
            {"address": f"127.0.0.1:{self.smtp_port}", "tls": "starttls", "auth": "required"},
            {"address": f"127.0.0.1:{self.tls_port}", "tls": "implicit", "auth": "required"},
        ]
        default = {
            "listeners": listeners,
            "tls": {"certificate": certificate, "key": key},
            "users_file": str(self.directory / "users"),
        }
        super().configure(merged(default, config))

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._implicit.close()

    def add_user(self, name: str, password: str) -> None:
        """By the command that people use."""
        done = subprocess.run(
            [sys.executable, "-m", "relay", "user", "add", name, "-c", str(self.file)],
            input=password + "\n", text=True, capture_output=True, timeout=60, check=False,
            cwd=self.directory, env=self._environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def submission(self, *, implicit: bool = False, mechanism: str = "PLAIN") -> Submission:
        """Where and how clients hand in their mail."""
        port = self.tls_port if implicit else self.smtp_port
        return Submission("127.0.0.1", port, implicit, mechanism, self.ca, USER, PASSWORD)
