"""Large content on its way to a transport: as fast as the peer takes it, one block in memory at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from relay.delivery.content_reader import ContentReader

Progress = Callable[[], None]
End = Callable[[str, bool], None]


class ContentStream:
    """Writes a file to a transport, with back-pressure; on the loop, one block a turn.

    progress(): a block was handed to the transport. end(fault, corrupt): once, unless stopped. fault "": all
    octets were written and are what was accepted; else what is wrong, and the caller must cut the connection.
    corrupt: they are not what was accepted, or gone; False: they could not be read this time.
    """

    def __init__(self, transport: asyncio.WriteTransport, progress: Progress, end: End) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._progress, self._end = progress, end
        self._reader: ContentReader | None = None
        self._in_thread = False
        self._stopped = False
        self.paused = False

    def start(self, path: Path, size: int, check: int) -> None:
        """Begin in the next turn of the loop. size, check: as in mailqueue's Loaded."""
        try:
            self._reader = ContentReader(path, size, check)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            self._loop.call_soon(self._finish, f"content cannot be opened: {error.strerror}", gone)
        else:
            self._loop.call_soon(self._pump)

    def resume(self) -> None:
        """The transport can take more."""
        self.paused = False
        self._pump()

    def stop(self) -> None:
        """The connection has ended; end() will not be called. Idempotent."""
        self._stopped = True
        if self._reader is not None and not self._in_thread:
            self._reader.close()

    def _pump(self) -> None:
        if self.paused or self._stopped or self._in_thread or self._reader is None:
            return
        block = self._reader.read_cached()
        if block is not None:
            self._take(block)
            return
        self._in_thread = True
        self._loop.run_in_executor(None, self._reader.read).add_done_callback(self._read)

    def _read(self, reading: asyncio.Future[bytearray]) -> None:
        """The thread has come back."""
        self._in_thread = False
        if self._stopped:
            reading.cancelled() or reading.exception()  # retrieved: nobody waits for it any more
            self.stop()
            return
        try:
            block = reading.result()
        except OSError as error:
            self._finish(f"content cannot be read: {error.strerror}", False)
        else:
            self._take(block)

    def _take(self, block: bytearray) -> None:
        assert self._reader is not None
        if not block:
            self._finish(self._reader.fault, True)
            return
        self._transport.write(block)
        self._progress()
        if not self.paused:
            self._loop.call_soon(self._pump)

    def _finish(self, fault: str, corrupt: bool) -> None:
        if not self._stopped:
            self.stop()
            self._end(fault, corrupt)
