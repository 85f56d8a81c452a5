"""Loopback ports that nobody else gets while a test uses them."""

from __future__ import annotations

import socket


class ReservedPort:
    """A free port, kept by a socket that is bound but does not listen: a connection to it is refused.

    Whoever sets SO_REUSEADDR (asyncio's servers do) can listen on it; when it stops, the port is still ours.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self._socket = self._make(0)
        self.port: int = self._socket.getsockname()[1]

    def listening(self) -> socket.socket:
        """A new socket bound to the port, for a server of the test's own."""
        return self._make(self.port)

    def _make(self, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self.host, port))
        return made

    def close(self) -> None:
        self._socket.close()
