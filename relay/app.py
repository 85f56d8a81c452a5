"""Wiring: the only module that knows all others.

    start(): queue -> routing -> scheduler -> control -> admin -> listeners
    stop():  the listeners first; what is past its final dot finishes, the rest is given back; the queue last

When the queue can no longer keep its promise (a failed write or sync), `failed` holds why and `on_failed` is
called: the process must end then, and the next start reads the truth from the disk.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from mailqueue import Options, Queue
from mailqueue.errors import QueueFailed
from relay import __version__
from relay.admin.commands import Commands
from relay.admin.control import Control
from relay.admin.health import Health
from relay.admin.place import runtime_directory
from relay.admin.web import Admin
from relay.config.model import Config
from relay.delivery.credential import Credentials
from relay.delivery.oauth import Tokens
from relay.delivery.oauth_endpoint import fetch
from relay.delivery.opening import Opening, open_connection
from relay.delivery.reports import Reports
from relay.delivery.retry import longest_wait
from relay.delivery.scheduler import Scheduler
from relay.delivery.secret import Secrets
from relay.front.admission import Admission
from relay.front.authenticator import Authenticator
from relay.front.certificate import CertificateError, Loaded, load
from relay.front.certificate_watch import CertificateWatch
from relay.front.channel import Channel
from relay.front.listener import Listener, stop_listeners
from relay.front.rewrite import Rewriter
from relay.front.service import Service
from relay.front.users_watch import UsersWatch
from relay.observe.events import Events
from relay.observe.lag import LoopLag
from relay.observe.metrics import route_names
from relay.observe.text import plural
from relay.routing.explain import describe
from relay.routing.resolve import Resolver
from relay.routing.table import RouteTable

RESTART_ONLY = ("hostname", "spool", "listeners", "admin", "delivery", "shutdown_timeout")
RESTART_LIMIT = "spool_reserve"  # of `limits`: the queue was opened with it
SETTLE_SHARE = 0.2  # of the shutdown timeout is kept for the last commit


class StartFailed(Exception):
    """An address cannot be had, or a certificate. The text is one line that says which and what to do."""


class App:
    """One relay in the running event loop. start() once, stop() once."""

    def __init__(self, config: Config, events: Events, on_failed: Callable[[str], None]) -> None:
        """on_failed: called at most once, with the reason; stop() is still to be called."""
        self.config = config
        self.events = events
        self.health = Health(events)
        self._on_failed = on_failed
        self._lag = LoopLag(events)
        self._listeners: list[Listener] = []
        self._authenticator = Authenticator(events)
        self._users = UsersWatch(self._authenticator, events)
        self.certificate = CertificateWatch(events)
        self._admission: Admission[Channel] = Admission(
            config.limits.sessions, config.limits.sessions_per_client, give_way=Channel.give_way
        )

    async def start(self) -> None:
        """Accepting when it returns. QueueError: the spool; StartFailed: what it says. Then nothing runs."""
        loaded = self._load_certificate(self.config)
        self.queue = await Queue.open(self.config.spool, self._options(), self.events)
        try:
            await self._start(loaded)
        except BaseException:
            await self.stop()
            raise
        self.health.accepting = True
        self._lag.start(asyncio.get_running_loop())
        where = ", ".join(self.smtp_addresses)
        more = f"spool {self.config.spool}, admin {self.admin_address}"
        self.events.started(f"relay {__version__} accepts mail on {where}; {more}")

    async def _start(self, loaded: Loaded | None) -> None:
        self.queue.on_failed = self._failed
        self.health.queue = self.queue
        self.events.metrics.spool.watch(self.queue)
        self.table, self.resolver = self._routing(self.config)
        self.reports = Reports(self.config, self.table, self.events)
        self.scheduler = self._scheduler()
        commands = Commands(
            self.queue,
            lane_state=self.scheduler.lane_state,
            explain=self._explain,
            facts=self._facts,
            begins=self._begins,
            changed=self.events.operator,
        )
        self.control = Control(self.config.spool, commands, self.events, runtime_directory(os.environ))
        await _bound(self.control.start(), "spool", str(self.control.place), "move away what is there")
        self.admin = Admin(self.config.admin.address, self.events.metrics, self.health)
        await _bound(self.admin.start(), "admin", self.config.admin.address)
        self.scheduler.start()
        self._users.configure(self.config.users_file)
        await self._users.settled()
        self._use_certificate(self.config, loaded)
        self.certificate.start()
        for listener in self._services():
            made = Listener(listener, self._admission)
            await _bound(made.start(), "listeners", listener.listener)
            self._listeners.append(made)

    def _options(self) -> Options:
        retry = self.config.retry
        return Options(
            reserve=self.config.limits.spool_reserve,
            recovery_pause=retry.after_crash,
            longest_wait=longest_wait(retry),
            aio=True,
        )

    def _routing(self, config: Config) -> tuple[RouteTable, Resolver]:
        return RouteTable(config), Resolver.of(config, self.events)

    def _services(self) -> list[Service]:
        return [
            Service(
                self.config,
                listener,
                self.queue,
                self.table,
                self.events,
                authenticator=self._authenticator,
                certificate=self.certificate,
            )
            for listener in self.config.listeners
        ]

    def _load_certificate(self, config: Config) -> Loaded | None:
        """What the listeners will show, where one has TLS. StartFailed."""
        if all(listener.tls == "off" for listener in self.config.listeners):
            return None
        try:
            return load(*certificate_files(config))
        except CertificateError as error:
            raise StartFailed(str(error)) from None

    def _use_certificate(self, config: Config, loaded: Loaded | None) -> None:
        if loaded is not None:
            self.certificate.use(certificate_files(config), loaded)

    def _scheduler(self) -> Scheduler:
        secrets = Secrets(self.events.secret_exposed)
        self.tokens = Tokens(secrets, time.monotonic, fetch)
        opening = Opening(
            self.config.hostname,
            self.events,
            self.config.delivery.source_address,
            credentials=Credentials(secrets, self.tokens),
        )
        return Scheduler(
            self.config,
            self.queue,
            self.table,
            self.resolver,
            self.events,
            time,
            random.Random(),
            opener=partial(open_connection, opening=opening),
            reporter=self.reports,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "listeners": self.smtp_addresses,
            "admin": self.admin_address,
            "sessions": len(self._admission),
            "not_ready": self.health.ready(),
            "faults": self.scheduler.faults(),
        }

    def _explain(self, recipient: str, sender: str) -> Awaitable[dict[str, Any]]:
        rewriter = Rewriter(self.config.rewrite)
        return describe(self.table, self.resolver, recipient, sender, rewriter.sender)

    def _begins(self, action: str) -> None:
        """An operator does something. Who says "retry" means the next hops in trouble as well."""
        if action == "retry":
            self.scheduler.hasten()

    def _failed(self, error: BaseException) -> None:
        if not self.health.failed:
            self.health.failed = str(error) or type(error).__name__
            self._on_failed(self.health.failed)

    # --- while it runs

    @property
    def smtp_addresses(self) -> list[str]:
        """host:port of each listener, as really bound."""
        return [_text(*listener.address) for listener in self._listeners]

    @property
    def admin_address(self) -> str:
        """host:port of the HTTP side, as really bound."""
        host, _, _ = self.config.admin.address.rpartition(":")
        return f"{host}:{self.admin.port}"

    def reload(self, config: Config) -> list[str]:
        """From now on `config` holds, but for the keys that need a restart: the changed ones are returned.
        StartFailed: nothing was changed.

        The old resolver is left to answer who still waits for it (its questions end within seconds): cut off,
        an attempt under way would be lost."""
        config, stuck = merged(self.config, config)
        table, resolver = self._routing(config)  # what can fail comes first: all or nothing
        loaded = self._load_certificate(config)
        self._use_certificate(config, loaded)
        self.config, self.table, self.resolver = config, table, resolver
        self.events.metrics.configure(route_names(config), [item.address for item in config.listeners])
        self.events.log.configure(style=config.log.format, level=config.log.level)
        self.queue.trust(longest_wait(config.retry))
        self.scheduler.reload(config, table, resolver)
        self._admission.sessions = config.limits.sessions
        self._admission.sessions_per_client = config.limits.sessions_per_client
        self._users.configure(config.users_file)
        for listener, service in zip(self._listeners, self._services(), strict=True):
            listener.service = service
        return stuck

    # --- the end

    async def stop(self) -> None:
        """Ends within the configuration's shutdown_timeout; also after a start that failed half-way.

        The queue is closed whatever happens before. Where the disk hangs it stays as a crash leaves it."""
        try:
            await self._stop_parts()
        finally:
            await self._close_queue()
            self.events.stopping("stopped")

    async def _close_queue(self) -> None:
        try:
            async with asyncio.timeout(max(1.0, self.config.shutdown_timeout * SETTLE_SHARE)):
                await self.queue.close()
        except TimeoutError:
            pass
        except QueueFailed as error:  # all that was acknowledged is in the log; the next start reads it
            self.events.spool_error("checkpoint", error)
            self._failed(error)

    async def _stop_parts(self) -> None:
        patience = self.config.shutdown_timeout * (1 - SETTLE_SHARE)
        deadline = time.monotonic() + patience
        self.health.stopping = True
        self._lag.stop()
        self.certificate.stop()
        if self._listeners:
            cut = await stop_listeners(self._listeners, self._admission, patience / 2)
            told = f"; {plural(cut, 'session')} cut" if cut else ""
            self.events.stopping(f"no longer accepting{told}")
        self._users.stop()
        self._authenticator.close()
        if hasattr(self, "scheduler"):
            self.scheduler.halt()
            if not self.health.failed:
                await self.scheduler.stop(max(0.0, deadline - time.monotonic()))
        for part in (getattr(self, name, None) for name in ("admin", "control")):
            if part is not None:
                await part.stop()
        if hasattr(self, "tokens"):
            await self.tokens.close()
        if hasattr(self, "resolver"):
            await self.resolver.close()


def certificate_files(config: Config) -> tuple[Path, Path]:
    """certificate, key."""
    tls = config.tls
    if tls.certificate is None or tls.key is None:
        raise StartFailed("tls: a listener needs a certificate; write tls: {certificate: ..., key: ...}")
    return tls.certificate, tls.key


def merged(old: Config, new: Config) -> tuple[Config, list[str]]:
    """What holds after a reload, and the changed keys that need a restart: they stay as they are."""
    limit = getattr(old.limits, RESTART_LIMIT)
    kept = {key: getattr(old, key) for key in RESTART_ONLY}
    stuck = [key for key, value in kept.items() if getattr(new, key) != value]
    if getattr(new.limits, RESTART_LIMIT) != limit:
        stuck.append(f"limits.{RESTART_LIMIT}")
    if new.tls.certificate is None and any(listener.tls != "off" for listener in old.listeners):
        kept["tls"] = old.tls  # of listeners that stay as they are
    if new.users_file is None and any(listener.auth != "off" for listener in old.listeners):
        kept["users_file"] = old.users_file
    kept["limits"] = new.limits.model_copy(update={RESTART_LIMIT: limit})
    return new.model_copy(update=kept), stuck


ADVICE = {  # why an address cannot be had -> what to do
    errno.EADDRINUSE: "choose another address or end who has it",
    errno.EADDRNOTAVAIL: "choose an address of this machine",
    errno.EACCES: "ports below 1024 are root's: choose another one, or permit it (systemd/port25.conf)",
}


async def _bound(starting: Any, key: str, address: str, advice: str = "") -> None:
    """Awaits a start; an OSError becomes a StartFailed that names the key, the address and what to do."""
    try:
        await starting
    except OSError as error:
        known = error.errno in errno.errorcode  # else it is about a name; asyncio's texts repeat the address
        why = os.strerror(error.errno).lower() if known and error.errno else error.strerror or str(error)
        advice = advice or ADVICE.get(error.errno or 0, "choose another address")
        text = f"{key}: cannot listen on {address}: {why}; {advice}"
        raise StartFailed(text) from None


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
