"""The events of the process itself."""

from __future__ import annotations

from relay import exposure
from relay.observe import labels
from relay.observe.log import ERROR, INFO, WARNING
from relay.observe.recorder import Recorder

TRACEBACK_EVERY = 1.0  # s between two tracebacks of one place: a bug on the hot path must not fill the disk


class ProcessEvents(Recorder):
    """Start, stop, reload, bugs, and what fits nowhere else."""

    def started(self, text: str) -> None:
        """The relay accepts mail."""
        self.log.write(INFO, "master", "started", text, message=text)

    def stopping(self, text: str) -> None:
        """The relay no longer accepts mail."""
        self.log.write(INFO, "master", "stopping", text, message=text)

    def reloaded(self, success: bool, text: str) -> None:
        """A reload took effect, or failed and the old configuration stays."""
        self.metrics.reloads.inc(("ok" if success else "failed",))
        self.metrics.reload_ok.set((), int(success))
        level, told = (INFO, text) if success else (ERROR, f"error: reload failed: {text}")
        self.log.write(level, "master", "reloaded", told, success=success, message=text)

    def bug(self, where: str, error: BaseException) -> None:
        """An exception nobody expected: one traceback in the log, counted by `where` up to its first dot."""
        place = where.partition(".")[0]
        place = place if place in labels.BUG_PLACES else labels.OTHER
        self.metrics.bugs.inc((place,))
        now = self.clock()
        text = f"bug: in {where}: {type(error).__name__}: {error}"
        if abs(now - self._traced.get(place, 0.0)) >= TRACEBACK_EVERY:
            self._traced[place] = now
            self.log.trace("bug", "bug", text, error, where=where)
        else:
            self.log.write(ERROR, "bug", "bug", text, where=where, message=text)

    def warning(self, text: str) -> None:
        """Something an operator should look at."""
        self.log.write(WARNING, "master", "warning", f"warning: {text}", message=text)

    def secret_exposed(self, path: str) -> None:
        """A file with a secret can be read by every user of this machine."""
        self.log.write(WARNING, "smtp", "secret_exposed", f"warning: {exposure.warning(path)}", path=path)

    def info(self, text: str) -> None:
        """Something worth a line."""
        self.log.write(INFO, "master", "info", text, message=text)

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop ran a timer."""
        self.lag = seconds
        self._lag.observe(seconds)
