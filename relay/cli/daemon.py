"""The client's side of the control socket. The protocol: relay/admin/control.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relay.admin.place import NAME, socket_path
from relay.cli.denied import denied
from relay.cli.exits import IO, UNAVAILABLE, Trouble

SILENCE = 30.0  # s; a living daemon says something every five


class NotRunning(Exception):
    """Nobody answers at the control socket."""


class Daemon:
    """One connection to a running relay."""

    def __init__(self, spool: Path) -> None:
        """NotRunning when there is none; Trouble when it may not be asked."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(SILENCE)
        try:
            with socket_path(spool / NAME) as path:
                self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            self._socket.close()
            raise NotRunning from None
        except PermissionError:
            self._socket.close()
            raise denied(spool) from None
        except OSError as error:
            self._socket.close()
            raise Trouble(
                f"{spool}: {(error.strerror or str(error)).lower()}; is it the spool?", IO
            ) from None
        self._lines = self._socket.makefile("rb")

    def ask(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects of the answer; the last has "end". Trouble: an error, or the daemon fell silent."""
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            for line in self._lines:
                item = json.loads(line)
                if "error" in item:
                    raise Trouble(str(item["error"]), int(item.get("code", UNAVAILABLE)))
                if "wait" in item:
                    continue
                yield item
                if item.get("end"):
                    return
        except TimeoutError:
            text = f"the relay runs, but has said nothing for {SILENCE:.0f} s; its log may say why"
            raise Trouble(text, UNAVAILABLE) from None
        except ConnectionError:
            pass
        raise Trouble("the relay ended in the middle of its answer; ask again", UNAVAILABLE)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
