"""Where one connection goes: what routing hands to delivery.

A `Target` is complete: delivery connects to `address` and asks no DNS, so what was checked (refused address
space) is what is used. `name` is for TLS (certificate name, SNI) and for people.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """name: host name in lower case without the final dot, or the address literal; address: IP text, never a
    name."""

    name: str
    address: str
    port: int
    implicit_tls: bool = False
    preference: int = 0  # of the MX record; the place in the list for a `via` host
