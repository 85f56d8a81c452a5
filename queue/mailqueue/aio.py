"""The sync of the log in a thread of the C library's own: POSIX aio_fsync, its end told by a signal.

A thread of Python's needs the interpreter before and after the sync, and a busy loop does not part with it
(worker.py). This one needs nothing of it: it calls fdatasync and sends a real-time signal, whose handler
wakes the loop. Where that cannot be had (no glibc, a loop outside the main thread, every signal taken or
blocked) there is no LogSync, and the worker does what it would have done.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable
from errno import EINPROGRESS
from typing import Any

SIGNALS = tuple(range(signal.SIGRTMAX, signal.SIGRTMIN, -1)) if hasattr(signal, "SIGRTMIN") else ()
_PATIENCE = 0.5  # s; then the loop looks for itself: the kernel may have had no room to queue the signal
_LOST = 3  # signals in a row: this system does not let them through
_LINGER = 10**6  # s that the library's thread stays without work (default: 1)
_THREADS, _REQUESTS = 4, 16  # of all queues of the process together

Done = Callable[[Any, Exception | None], None]


class _Event(ctypes.Structure):
    """struct sigevent of 64-bit Linux, in 64 octets."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),  # 0: SIGEV_SIGNAL
        ("rest", ctypes.c_char * 48),
    )


class _Request(ctypes.Structure):
    """struct aiocb, which has 168 octets in glibc."""

    _fields_ = (
        ("descriptor", ctypes.c_int),
        ("operation", ctypes.c_int),
        ("priority", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("octets", ctypes.c_size_t),
        ("event", _Event),
        ("rest", ctypes.c_char * 256),
    )


class _Init(ctypes.Structure):
    """struct aioinit; see aio_init(3)."""

    _fields_ = tuple(
        (name, ctypes.c_int)
        for name in ("threads", "requests", "locks", "usedba", "debug", "users", "linger", "reserved")
    )


class LogSync:
    """One sync at a time of one file. Made by `log_sync`; for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, library: ctypes.PyDLL, number: int) -> None:
        """number: a signal that nobody else uses."""
        self._loop = loop
        self._library = library
        self._number = number
        self._request = _Request(event=_Event(number=number))
        self._done: Done | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._lost = 0  # signals in a row
        signal.signal(number, self._signalled)
        signal.siginterrupt(number, False)

    def begin(self, descriptor: int, done: Done) -> bool:
        """Make what was written so far durable (fdatasync), then done(None, error) on the loop. False: it
        cannot be begun now, and nothing was done."""
        self._request.descriptor = descriptor
        if self._lost >= _LOST or self._library.aio_fsync(os.O_DSYNC, ctypes.byref(self._request)):
            return False
        self._done = done
        if self._watch is None:
            self._watch = self._loop.call_later(_PATIENCE, self._look_again)
        return True

    def _signalled(self, *_: object) -> None:
        """Between any two instructions of the main thread."""
        self._lost = 0
        try:
            self._loop.call_soon_threadsafe(self._look)
        except RuntimeError:  # the loop is closed: there is nobody left to tell
            return

    def _look(self) -> bool:
        """Has the sync ended, and not been told before?"""
        done, request = self._done, ctypes.byref(self._request)
        if done is None:
            return False
        error = self._library.aio_error(request)
        if error == EINPROGRESS:
            return False
        self._library.aio_return(request)
        self._done = None
        done(None, OSError(error, os.strerror(error)) if error else None)
        return True

    def _look_again(self) -> None:
        self._watch = None
        if self._done is not None:
            self._watch = self._loop.call_later(_PATIENCE, self._look_again)
            self._lost += self._look()

    def stop(self) -> None:
        """No timer is left. A sync that hangs for ever keeps its memory and its signal."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        signal.signal(self._number, signal.SIG_IGN)
        if self._done is None:
            _free.append(self._number)
        else:
            _hanging.append(self._request)


_free: list[int] = []  # ignored, and ours
_hanging: list[_Request] = []


def log_sync(loop: asyncio.AbstractEventLoop) -> LogSync | None:
    """None where there is no such thing."""
    if not SIGNALS or threading.current_thread() is not threading.main_thread():
        return None
    library = _library()
    number = _signal() if library is not None else 0
    return LogSync(loop, library, number) if library is not None and number else None


def _signal() -> int:
    """One that nobody else uses, 0 where there is none."""
    if _free:
        return _free.pop()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    unused = (number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL)
    return next((number for number in unused if number not in blocked), 0)


def _library() -> ctypes.PyDLL | None:
    """glibc of 64 bits, whose structures we know. It keeps the interpreter: none of the calls waits."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    library = ctypes.PyDLL(None)
    if not hasattr(library, "aio_init"):  # glibc 2.34 or later has it (older ones in librt), nobody else
        return None
    library.aio_return.restype = ctypes.c_ssize_t
    library.aio_init(ctypes.byref(_Init(threads=_THREADS, requests=_REQUESTS, linger=_LINGER)))
    return library
