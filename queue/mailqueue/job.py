"""What a transaction is made of. The kinds: accept.py, settle.py, take.py, quarantine.py, operate.py.

A job writes itself into a Transaction, possibly more than once (a transaction that met a full disk is rolled
back and written again), so `write` changes nothing but the Transaction and what only this job knows.
"""

from __future__ import annotations

from typing import Protocol

from mailqueue.transaction import Transaction


class Job(Protocol):
    refusable: bool  # True: refused when the disk is full; False: waits for room

    def write(self, tx: Transaction) -> None:
        """Write into the transaction."""

    def succeed(self) -> None:
        """It is durable."""

    def fail(self, error: Exception) -> None:
        """It is not and will not be."""
