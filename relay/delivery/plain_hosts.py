"""Hosts whose STARTTLS failed under `opportunistic`: for a while they are spoken to in clear at once."""

from __future__ import annotations

import time
from collections.abc import Callable


class PlainHosts:
    """A bounded memory: over `limit` hosts the oldest is forgotten; after `seconds` TLS is tried again."""

    def __init__(
        self, limit: int = 1000, seconds: float = 3600.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit, self._seconds, self._monotonic = limit, seconds, monotonic
        self._until: dict[tuple[str, int], float] = {}

    def add(self, address: str, port: int) -> None:
        """TLS with this host has just failed."""
        key = (address, port)
        self._until.pop(key, None)
        self._until[key] = self._monotonic() + self._seconds
        while len(self._until) > self._limit:
            del self._until[next(iter(self._until))]

    def __contains__(self, key: tuple[str, int]) -> bool:
        until = self._until.get(key)
        return until is not None and self._monotonic() < until
