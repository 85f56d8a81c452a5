"""How the audience sees it: a live table on a terminal, a line an event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relay.demo.tale import Fate

STYLES = {"accepted": "cyan", "deferred": "yellow", "delivered": "green", "bounced": "magenta"}
ADDRESS = 20  # columns for whom a sentence is about
WIDE = 100  # columns; from here on there is room for the queue ids
OTHERS = 17  # lines that are not sentences: the programme above, the table, the depth, the cursor
KEPT = 12  # sentences below the table, at most


class View(Protocol):
    """told: an event in words; depth: the queue as /metrics says it; all between open() and close()."""

    def open(self) -> None: ...
    def told(self, who: str, what: str) -> None: ...
    def depth(self, states: dict[str, int]) -> None: ...
    def close(self) -> None: ...


class Clock:
    """Seconds since the curtain rose."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._begun = time.monotonic()

    def text(self) -> str:
        return f"{time.monotonic() - self._begun:5.1f} s"


class Lines:
    """For pipes, files and CI logs."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console, self._clock = console, clock
        self._last = ""

    def open(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to put away."""

    def told(self, who: str, what: str) -> None:
        self._say(f"{who:<{ADDRESS}} {what}")

    def depth(self, states: dict[str, int]) -> None:
        text = depth_text(states)
        if text != self._last:
            self._last = text
            self._say(f"{'/metrics':<{ADDRESS}} {text}")

    def _say(self, text: str) -> None:
        self._console.print(f"{self._clock.text()}  {text}", markup=False, highlight=False, soft_wrap=True)


class Screen:
    """For a terminal: one row a letter, the queue depth, the last sentences."""

    def __init__(self, console: Console, clock: Clock, fates: Iterable[Fate]) -> None:
        self._console, self._clock, self._fates = console, clock, list(fates)
        self._sentences: list[str] = []
        self._depth = ""
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def open(self) -> None:
        self._live.start()
        self._refresh()

    def close(self) -> None:
        self._refresh()
        self._live.stop()

    def told(self, who: str, what: str) -> None:
        self._sentences.append(f"{self._clock.text()}  {who:<{ADDRESS}} {what}")
        self._refresh()

    def depth(self, states: dict[str, int]) -> None:
        self._depth = depth_text(states)
        self._refresh()

    def _refresh(self) -> None:
        self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        wide = self._console.width >= WIDE
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for column in ("to", "its next hop", *(("queue id",) if wide else ()), "try", "now", "last reply"):
            table.add_column(column, no_wrap=column in ("to", "queue id", "now"))
        for fate in self._fates:
            now = Text(fate.state or "-", STYLES.get(fate.state, ""))
            name = (fate.name,) if wide else ()
            tries = str(fate.tries or "")
            table.add_row(fate.letter.recipient, fate.letter.hop, *name, tries, now, fate.reply)
        depth = Text(f"\n{self._clock.text()}  {self._depth}", "bold")
        kept = max(1, min(KEPT, self._console.height - OTHERS))
        last = (Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in self._sentences[-kept:])
        return Group(table, depth, *last)


def depth_text(states: dict[str, int]) -> str:
    """relay_queue_messages as one line: the sum, and the states that are not 0."""
    parts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    return f"relay_queue_messages: {sum(states.values())}" + (f" ({parts})" if parts else "")


def show_bounce(console: Console, text: str) -> None:
    """The words of the bounce that came back; "" when none did."""
    if not text:
        return
    if console.is_terminal:
        console.print(Panel(Text(text.strip()), title="The bounce that came back to the shop", expand=False))
        return
    console.print("\nThe bounce that came back to the shop:\n", markup=False, highlight=False)
    for line in text.strip().splitlines():
        console.print(f"  | {line}", markup=False, highlight=False, soft_wrap=True)
    console.print()
