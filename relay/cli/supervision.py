"""What the service manager hears of a relay: ready, reloading, stopping, a status line, signs of life.

A timer on the event loop says that we live, so a loop that hangs falls silent; so does a relay that is of no
more use by its own judgement (`health.alive()`). The manager then ends it and starts another.
"""

from __future__ import annotations

import asyncio

from mailqueue.entry import State
from mailqueue.errors import QueueError
from relay.app import App
from relay.observe.notify import ALIVE, READY, STOPPING, Notifier, status

REFRESH = 10.0  # s between two status lines
SOON = 1.0  # s: who is not well is asked again before the manager's patience ends
COUNTS = {
    "waiting": (State.INCOMING, State.DEFERRED),
    "being sent": (State.ACTIVE,),
    "on hold": (State.HELD,),
    "in quarantine": (State.QUARANTINED,),
}


class Supervision:
    """Of one App, in the running event loop."""

    def __init__(self, app: App, notifier: Notifier) -> None:
        self._app = app
        self._notifier = notifier
        self._timer: asyncio.TimerHandle | None = None
        self._wait = min(REFRESH, (notifier.watchdog or 2 * REFRESH) / 2)

    def starting(self) -> None:
        self._notifier.tell(status("opening the spool"))

    def ready(self) -> None:
        """The start or a reload is over, whatever came of it; begins the signs of life."""
        if not self._notifier.listens:
            return
        self._notifier.tell(READY)
        self.tick()

    def reloading(self) -> None:
        self._notifier.tell(*self._notifier.reloading(), status("reading the configuration"))

    def stopping(self) -> None:
        """The signs of life go on until end()."""
        self._notifier.tell(STOPPING, status("stopping: transactions under way end, the rest stays queued"))

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._notifier.close()

    def tick(self) -> None:
        """One status line, and a sign of life unless something is wrong; again and again."""
        if self._timer is not None:
            self._timer.cancel()
        wrong = self._app.health.alive()
        if wrong:
            self._notifier.tell(status(f"not well: {'; '.join(wrong)}"))
        elif self._app.health.stopping:
            self._notifier.tell(ALIVE)
        else:
            self._notifier.tell(ALIVE, status(summary(self._app)))
        wait = min(SOON, self._wait) if wrong else self._wait
        self._timer = asyncio.get_running_loop().call_later(wait, self.tick)


def summary(app: App) -> str:
    """One line for people: where mail is accepted, what is queued, what is wrong."""
    parts = [f"accepting mail on {', '.join(app.smtp_addresses)}", _queued(app)]
    suspended = sum(app.events.suspended.values())
    if suspended:
        parts.append(f"next hops in trouble: {suspended}")
    parts += app.health.ready()
    if not app.events.metrics.reload_ok.values[()]:
        parts.append("the last reload failed, the old configuration holds")
    return "; ".join(parts)


def _queued(app: App) -> str:
    try:
        tallies = app.queue.stats()
    except QueueError as error:
        return f"queue: {error}"
    counts = {name: sum(tallies[state].entries for state in states) for name, states in COUNTS.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing queued"
