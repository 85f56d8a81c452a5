"""`relay health` where something else than a ready relay is found: one sentence that says what to do."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from fakes.ports import ReservedPort

from relay.cli import health
from relay.cli.main import main


def asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str) -> str:
    """The one line on standard error."""
    file = tmp_path / "relay.yaml"
    file.write_text(f'admin: {{address: "{address}"}}\n')
    assert main(["health", "-c", str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No number of an error, but what it means."""
    port = ReservedPort()
    try:
        line = asked(tmp_path, capsys, f"127.0.0.1:{port.port}")
    finally:
        port.close()
    where = f"127.0.0.1 port {port.port} (admin.address)"
    assert line.startswith(f"relay: not ready: nothing listens at {where}: the relay does not run; start it")
    assert "rrno" not in line


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", "is not a relay; is admin.address right?"),
        (b"220 mail.example ESMTP\r\n", "is not a relay; is admin.address right?"),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", "is not a relay; is admin.address right?"),
        (b'HTTP/1.0 503 No\r\n\r\n{"ready": false, "reasons": ["stopping"]}', "relay: not ready: stopping"),
        (b"", "cannot be asked: "),
        (None, "did not answer within 0 s; the log of the relay may say why"),
    ],
)
def test_what_else_answers(
    answer: bytes | None,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another server, a relay that is not ready, one that hangs up, one that hangs (None)."""
    if answer is None:
        monkeypatch.setattr(health, "PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                if answer is not None:
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)
                client.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        line = asked(tmp_path, capsys, f"127.0.0.1:{server.getsockname()[1]}")
        thread.join(10)
    assert expected in line
