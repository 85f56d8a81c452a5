"""What a service manager is told: readiness, a status line, signs of life (sd_notify(3), without a library).

Datagrams of KEY=VALUE lines to the socket that NOTIFY_SOCKET names; without it nothing is said. Nothing here
blocks or raises: what a full socket does not take now goes with the next call.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from relay.observe.text import printable

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"
LONGEST_STATUS = 512  # characters


class Notifier:
    """environ: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID; warn: told once when nobody can be told.

    watchdog: seconds within which the manager wants ALIVE, None when it does not care."""

    def __init__(
        self,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn = warn
        self._monotonic = monotonic
        self._unsent: list[str] = []
        self._socket: socket.socket | None = None
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog = _watchdog(environ) if self._address else None

    @property
    def listens(self) -> bool:
        """True when there is somebody to tell."""
        return bool(self._address)

    def tell(self, *lines: str) -> None:
        """One datagram. A later STATUS replaces one that waits; what cannot be sent to anybody is dropped."""
        if not self._address:
            return
        keys = {line.partition("=")[0] for line in lines}
        self._unsent = [line for line in self._unsent if line.partition("=")[0] not in keys]
        self._unsent += lines
        try:
            self._send("\n".join(self._unsent).encode())
        except BlockingIOError:  # the manager is busy: the lines wait for the next call
            return
        except OSError as error:
            self._warn(f"the service manager at NOTIFY_SOCKET cannot be told: {error.strerror or error}")
            self.close()
            return
        self._unsent.clear()

    def _send(self, data: bytes) -> None:
        if self._socket is None:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.sendto(data, self._address)

    def reloading(self) -> tuple[str, str]:
        """The lines that begin a reload; READY ends it."""
        return "RELOADING=1", f"MONOTONIC_USEC={int(self._monotonic() * 1e6)}"

    def close(self) -> None:
        """Nobody is told anything any more. Idempotent."""
        self._address = ""
        self._unsent.clear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def status(text: str) -> str:
    """The line that `systemctl status` shows: one line, whatever the text."""
    return f"STATUS={printable(text)[:LONGEST_STATUS]}"


def _address(text: str) -> str:
    """A path, or an abstract name ("@x" in the environment, a NUL first for the kernel); "" for all else."""
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Seconds; None without a watchdog, or when it watches another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
