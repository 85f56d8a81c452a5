"""`relay run`: the relay in the foreground, until SIGTERM or SIGINT; SIGHUP reads the configuration again.

Exit codes: 0 after a signal, 78 bad configuration, 69 an address cannot be had, 73 the spool cannot be used,
75 another process owns it, 74 the disk failed (nothing acknowledged is lost; start again when it is mended).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable

from mailqueue.errors import QueueError, SpoolLocked
from relay.app import App, StartFailed
from relay.cli import exits
from relay.cli.memory import keep_freed
from relay.cli.supervision import Supervision
from relay.config.load import load
from relay.config.machine import mount_of, warnings
from relay.config.model import Config
from relay.config.problem import ConfigErrors
from relay.config.surroundings import refusal
from relay.front.listener import is_accept_trouble
from relay.observe.bridge import bridged
from relay.observe.events import Events
from relay.observe.log import Log
from relay.observe.metrics import Metrics
from relay.observe.notify import Notifier

CANNOT_CREATE = 73
SWITCH_INTERVAL = 0.0005  # s: a thread that ended a sync gets the interpreter soon although the loop is busy
FILES_BESIDES = 256  # the spool, DNS, HTTP, operators
GARBAGE = (50_000, 20, 50)  # collections are rare: the work in hand makes hardly any cycles


def run(args: argparse.Namespace) -> int:
    """Runs until a signal; returns the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the default would end us; a fresh start needs no reload
    try:
        config = load(args.config, os.environ)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return exits.CONFIG
    reason = refusal(config, mount_of(config.spool))
    if reason:
        print(f"relay: {reason}", file=sys.stderr)
        return exits.CONFIG
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*GARBAGE)
    keep_freed()
    log = Log(2, style=config.log.format, level=config.log.level, hostname=config.hostname)
    metrics = Metrics.of(config)
    metrics.watch_log(log)
    try:
        with bridged(log), asyncio.Runner(loop_factory=loop_factory(os.environ)) as runner:
            return runner.run(Process(args, config, Events(log, metrics)).run())
    finally:
        log.close()


def allow_files(config: Config) -> list[str]:
    """Raise this process's limit of open files (often 1024) as far as is needed and allowed: a socket and a
    large message for each session and connection. Returns a warning when that is not enough."""
    wanted = 2 * (config.limits.sessions + config.delivery.connections) + FILES_BESIDES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most >= wanted:
        return []
    text = (
        f"limits.sessions and delivery.connections can need {wanted} open files, this process may have {most}"
    )
    return [f"{text}; raise its limit (ulimit -n, LimitNOFILE=)"]


def loop_factory(environ: dict[str, str] | os._Environ[str]) -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed; RELAY_LOOP=asyncio asks for the standard library's."""
    if environ.get("RELAY_LOOP") != "asyncio":
        with contextlib.suppress(ImportError):
            import uvloop

            os.environ.setdefault("UV_USE_IO_URING", "0")  # dearer than epoll_ctl, asked for one socket each
            return uvloop.new_event_loop
    return asyncio.new_event_loop


class Process:
    """The life of one process: start, signals, end."""

    def __init__(self, args: argparse.Namespace, config: Config, events: Events) -> None:
        self.args = args
        self.events = events
        self.ended = asyncio.Event()
        self.hung_up = asyncio.Event()
        # before the App: it asks for the limit
        self.warnings = [*warnings(config, args.config, os.environ), *allow_files(config)]
        self.app = App(config, events, self.failed)
        self.supervision = Supervision(self.app, Notifier(os.environ, events.warning))

    async def run(self) -> int:
        """The exit code."""
        loop = asyncio.get_running_loop()
        self.events.log.attach(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ended.set)
        loop.add_signal_handler(signal.SIGHUP, self.hung_up.set)
        loop.set_exception_handler(self.unexpected)
        if self.args.config is None:
            self.events.info("no configuration file: the defaults hold, and RELAY__ variables")
        for text in self.warnings:
            self.events.warning(text)
        self.supervision.starting()
        try:
            await self.app.start()
        except (QueueError, StartFailed) as error:
            self.supervision.end()
            return refused(error)
        gc.collect()
        gc.freeze()
        self.supervision.ready()
        reloading = loop.create_task(self.reloads())
        await self.ended.wait()
        reloading.cancel()
        self.supervision.stopping()
        await self.app.stop()
        self.supervision.end()
        return exits.IO if self.app.health.failed else exits.OK

    def failed(self, reason: str) -> None:
        """The queue is no more: end, so that the next start reads the truth from the disk."""
        self.ended.set()

    async def reloads(self) -> None:
        """One reload after the other. A signal that comes during the start or during a reload has its own."""
        while await self.hung_up.wait():
            self.hung_up.clear()
            self.supervision.reloading()
            try:
                await self.reload()
            except Exception as error:
                self.events.bug("app.reload", error)
                self.events.reloaded(False, f"internal error: {type(error).__name__}: {error}")
            self.supervision.ready()

    async def reload(self) -> None:
        """All or nothing: on an error the old configuration stays. Read in a thread: to find the machine's
        name may take its time."""
        try:
            config, warned = await asyncio.to_thread(self.read)
        except ConfigErrors as errors:
            self.events.reloaded(False, "; ".join(str(errors).splitlines()))
            return
        for text in warned:
            self.events.warning(text)
        try:
            stuck = self.app.reload(config)
        except StartFailed as error:
            self.events.reloaded(False, str(error))
            return
        text = f"; these need a restart: {', '.join(stuck)}" if stuck else ""
        self.events.reloaded(True, f"configuration read again{text}")

    def read(self) -> tuple[Config, list[str]]:
        """The configuration as it stands now, and what is odd about it."""
        config = load(self.args.config, os.environ)
        return config, warnings(config, self.args.config, os.environ)

    def unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """An exception that reached the event loop: told, counted; the relay goes on."""
        error = context.get("exception")
        if is_accept_trouble(context):
            self.events.session_refused("*", "", "files")
        elif isinstance(error, BaseException):
            self.events.bug("loop", error)
        else:
            self.events.warning(f"event loop: {context.get('message')}")


def refused(error: Exception) -> int:
    """Says why nothing was started; the exit code."""
    foreign = isinstance(error.__cause__, PermissionError) and os.geteuid()  # what explain() was told
    advice = "; be the relay's user, or give this one a directory of its own as spool:" if foreign else ""
    print(f"relay: {error}{advice}", file=sys.stderr)
    if isinstance(error, StartFailed):
        return exits.UNAVAILABLE
    return exits.TEMPORARY if isinstance(error, SpoolLocked) else CANNOT_CREATE
