"""What a transaction is made of. The kinds: accept.py, settle.py, take.py, quarantine.py, operate.py.

A job writes itself into a Transaction, possibly more than once (a transaction that met a full disk is rolled
back and written again), so `write` changes nothing but the Transaction and what only this job knows.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from mailqueue.transaction import Transaction


class Job(Protocol):
    refusable: bool  # True: refused when the disk is full; False: waits for room
    octets: int  # of content that it writes

    def write(self, tx: Transaction) -> None:
        """Write into the transaction."""

    def succeed(self) -> None:
        """It is durable."""

    def fail(self, error: Exception) -> None:
        """It is not and will not be."""


class Barrier:
    """Nothing, in its place among the others: durable when all that was asked before it is."""

    refusable = False
    octets = 0

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future

    def write(self, tx: Transaction) -> None:
        """Nothing."""

    def succeed(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)
