"""How large a campaign is, and its seed.

In `make test` every campaign has a size that takes seconds. `make faults` sets FAULTS_FULL=1: the size that
is promised. FAULTS_ROUNDS says another number, FAULTS_SEED repeats a seed that was printed.
"""

from __future__ import annotations

import os
import random


def rounds(ci: int, full: int) -> int:
    """The number of faults (or states, or points) of a campaign."""
    told = os.environ.get("FAULTS_ROUNDS")
    return int(told) if told else full if os.environ.get("FAULTS_FULL") else ci


def new_seed() -> int:
    """A seed, printed: pytest shows it when the test fails, `make faults` always."""
    seed = int(os.environ.get("FAULTS_SEED") or random.randrange(2**32))
    print(f"FAULTS_SEED={seed}")
    return seed


def is_full() -> bool:
    return bool(os.environ.get("FAULTS_FULL"))
