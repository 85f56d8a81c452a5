"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of malloc.h
_KEPT = 16 * 2**20  # octets at the end of the heap that are kept for what comes next
_OWN = 2 * 2**20  # octets: what is larger goes back to the system as soon as it is freed


def keep_freed() -> None:
    """Large content comes and goes in blocks of some 100 KiB. glibc gives them back to the system each time,
    which then has to find and clear the same pages again: a tenth of what a message of 5 MB costs. Elsewhere
    nothing is done."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
        library.mallopt(_MMAP_THRESHOLD, _OWN)
