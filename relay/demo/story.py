"""`relay demo [--stay]`: a relay, a DNS server and next hops of its own, on loopback, and mail through them.

It shows what happens while it happens and ends by itself: exit 0 when every letter had the fate that CAST
says, else 1 and a line for each that had not. With --stay it goes on until it is interrupted and says what to
try. It needs no root and no network, and removes its temporary directory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import aiosmtplib
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from mailqueue.errors import QueueError
from relay.app import App, StartFailed
from relay.demo.cast import BOUNCE, CAST, SENDER
from relay.demo.dns import SmallDns
from relay.demo.ending import bounce_words, complaints
from relay.demo.hints import hints, relay_command
from relay.demo.scene import RETRY, configure, records, settle
from relay.demo.sinks import Sink
from relay.demo.tale import Tale
from relay.demo.view import Clock, Lines, Screen, View, show_bounce
from relay.observe.log import Log
from relay.observe.metrics import Metrics

PATIENCE = 20.0  # s for all fates to come true; the demonstration takes about 6
GAP = 0.4  # s between two letters, for the eye
LOOK = 0.25  # s between two looks at /metrics
TAIL = 30  # lines of the log that are shown when something went wrong


def run(args: argparse.Namespace) -> int:
    """args: stay. Returns the exit code."""
    console = Console()
    story = Story(console)
    try:
        return asyncio.run(story.play(stay=bool(args.stay)))
    except asyncio.CancelledError:
        return 128 + story.signal


class Story:
    """One performance."""

    def __init__(self, console: Console) -> None:
        self.console, self.clock = console, Clock()
        self.view: View = Lines(console, self.clock)
        self.sinks = {letter.recipient: Sink(letter) for letter in (*CAST, BOUNCE)}
        self.states: dict[str, int] = {}  # the queue, as /metrics said last
        self.changed = asyncio.Event()
        self.signal = 0  # the one that ended it

    async def play(self, *, stay: bool) -> int:
        """The exit code."""
        task = asyncio.current_task()
        assert task
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a background job inherits it ignored
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, number, task)
        with tempfile.TemporaryDirectory(prefix="relay-demo-") as name:
            directory = Path(name)
            try:
                async with self._world(directory) as (app, tale):
                    code = await self._perform(app, tale, directory)
                    if stay:
                        await self._stay(app, directory)
                    return code
            except (OSError, QueueError, StartFailed) as error:
                self.console.print(f"relay demo: cannot start: {error}", markup=False)
                return 1

    def _interrupt(self, number: int, task: asyncio.Task[int]) -> None:
        self.signal = number
        task.cancel()

    # --- the stage

    @asynccontextmanager
    async def _world(self, directory: Path) -> AsyncIterator[tuple[App, Tale]]:
        """Next hops, DNS and relay, running; they end in the reverse order."""
        async with AsyncExitStack() as stack:
            for sink in self.sinks.values():
                await sink.start()
                stack.push_async_callback(sink.stop)
            dns = await stack.enter_async_context(SmallDns(records()))
            config = configure(directory, dns.address, self.sinks)
            log = Log(
                os.open(directory / "relay.log", os.O_WRONLY | os.O_CREAT, 0o600), hostname=config.hostname
            )
            stack.callback(log.close)
            tale = Tale(log, Metrics.of(config), self._told)
            app = App(config, tale, lambda reason: self._told("the relay", f"its queue failed: {reason}"))
            await app.start()
            stack.push_async_callback(app.stop)
            yield app, tale

    def _told(self, who: str, what: str) -> None:
        self.view.told(who, what)
        self.changed.set()

    # --- the play

    async def _perform(self, app: App, tale: Tale, directory: Path) -> int:
        """All letters until the end of the last; then the bounce, and the verdict."""
        self.clock.begin()
        self._programme(app, directory)
        if self.console.is_terminal:
            self.view = Screen(self.console, self.clock, tale.fates.values())
        self.view.open()
        watch = asyncio.create_task(self._watch(app))
        try:
            async with asyncio.timeout(PATIENCE):
                await self._hand_in(app)
                await self._all_final(tale)
        except TimeoutError:
            self.view.told("the clock", f"says that {PATIENCE:g} s are over")
        except aiosmtplib.SMTPException as error:
            self.view.told(SENDER, f"could not hand in its mail: {error}")
        finally:
            watch.cancel()
            self.view.close()
        self.view = Lines(self.console, self.clock)
        show_bounce(self.console, bounce_words(self.sinks[SENDER].inbox))
        return self._verdict(tale, directory)

    async def _hand_in(self, app: App) -> None:
        """The shop hands in its mail over SMTP."""
        host, _, port = app.smtp_addresses[0].rpartition(":")
        async with aiosmtplib.SMTP(hostname=host, port=int(port), start_tls=False) as client:
            for letter in CAST:
                await client.sendmail(SENDER, [letter.recipient], letter.content)
                if self.signal:  # the client's wait_for (Python 3.11) can lose a cancel
                    raise asyncio.CancelledError
                await asyncio.sleep(GAP)

    async def _all_final(self, tale: Tale) -> None:
        """Until every letter has come to its end and Prometheus would see an empty queue."""
        while sum(self.states.values()) or not all(fate.final for fate in tale.fates.values()):
            self.changed.clear()
            await self.changed.wait()

    async def _watch(self, app: App) -> None:
        """Looks at the queue as Prometheus would, until cancelled."""
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    self.states = await depth(session, app)
                    self.view.depth(self.states)
                except aiohttp.ClientError as error:
                    self.view.told("/metrics", f"cannot be read: {error}")
                self.changed.set()
                await asyncio.sleep(LOOK)

    def _verdict(self, tale: Tale, directory: Path) -> int:
        wrong = complaints(tale.fates.values(), self.sinks)
        if not wrong:
            fates = f"All {len(tale.fates)} fates as expected ({len(CAST)} and the bounce)"
            self._print(f"{fates}, after {self.clock.text().strip()}.")
            return 0
        tail = (directory / "relay.log").read_text(errors="replace").splitlines()[-TAIL:]
        self._print("\n".join((*wrong, "The relay's log ends:", *tail)))
        return 1

    # --- what the audience may do

    def _programme(self, app: App, directory: Path) -> None:
        smtp, admin = app.smtp_addresses[0], app.admin_address
        self._print(f"A relay on {smtp}, metrics at http://{admin}/metrics")
        self._print(f"Its spool: {directory}/spool; retries after {RETRY.strip('[]')}.")
        self._print(f"The shop ({SENDER}) sends {len(CAST)} messages:\n")

    async def _stay(self, app: App, directory: Path) -> None:
        """Until SIGINT or SIGTERM."""
        smtp, admin = app.smtp_addresses[0], app.admin_address
        settle(directory, smtp, admin)
        self._print(hints(relay_command(), smtp, admin, directory))
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


async def depth(session: aiohttp.ClientSession, app: App) -> dict[str, int]:
    """relay_queue_messages by state, scraped from /metrics."""
    async with session.get(f"http://{app.admin_address}/metrics") as response:
        text = await response.text()
    return {
        sample.labels["state"]: int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "relay_queue_messages"
    }
