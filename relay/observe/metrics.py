"""Every metric of the relay: names, labels and help texts in one place, all at 0 from the start.

One registry of our own, no global state. Route and listener labels come from the configuration through
`configure`; everything else is a fixed set of labels.py. Only events.py moves these numbers, on the loop's
thread.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from itertools import product
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector

from relay import __version__
from relay.observe import labels
from relay.observe.families import Counter, Family, Gauge, Histogram, Key, Watched
from relay.observe.spool import SpoolCollector
from relay.outcome import STAGES

if TYPE_CHECKING:
    from relay.config.model import Config
    from relay.observe.log import Log

COMMIT_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
STAGE_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
DELAY_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 259200.0)
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


def _one(values: Iterable[str]) -> list[Key]:
    return [(value,) for value in values]


class Metrics:
    """The families, as attributes; `registry` is what an exposition reads."""

    def __init__(
        self,
        routes: Iterable[str] = (),
        listeners: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.spool = SpoolCollector(clock)
        self._front()
        self._queue()
        self._delivery()
        self._connections()
        self._process()
        self.configure(routes, listeners)
        for collector in (*vars(self).values(),):
            if isinstance(collector, Family | SpoolCollector):
                self.registry.register(collector)
        ProcessCollector(registry=self.registry)

    @classmethod
    def of(cls, config: Config) -> Metrics:
        """With the routes and listeners of a configuration."""
        return cls(route_names(config), [listener.address for listener in config.listeners])

    def configure(self, routes: Iterable[str], listeners: Iterable[str]) -> None:
        """Announces routes ("mx" is always there) and listeners; after a reload, again: old ones stay."""
        named = list(routes)
        for route in _one(named):
            self.route_up.values.setdefault(route, 1)
            self.route_fault.add(*((*route, reason) for reason in labels.FAULT_REASONS))
        for route in _one((*named, "mx")):
            self.delivery_attempts.add(route)
            self.delivery_delay.add(route)
            self.last_success.add(route)
            self.out_connections.add(route)
            self.out_connected.add(route)
            self.retried_fresh.add(route)
            self.throttle_delay.add(route)
            self.deliveries.add(*((*route, result) for result in labels.RESULTS))
        for listener in listeners:
            self.sessions.add((listener,))
            self.in_connections.add(*product((listener,), ("accepted", *labels.REFUSE_REASONS)))
            self.received.add((listener, "no"), (listener, "yes"))

    def watch_log(self, log: Log) -> None:
        """The log counts its lost lines itself."""
        self.log_dropped.source = lambda: log.dropped

    def _front(self) -> None:
        self.sessions = Gauge("relay_smtp_sessions", "Open SMTP sessions", ("listener",), ())
        self.in_connections = Counter(
            "relay_smtp_connections",
            "Connections that clients made, by what became of them",
            ("listener", "result"),
            (),
        )
        self.gave_way = Counter(
            "relay_smtp_sessions_gave_way", "Sessions that did nothing, ended because places were short"
        )
        self.commands = Counter(
            "relay_smtp_commands", "SMTP commands by the class of our reply", ("verb", "code_class"),
            product(labels.VERBS, ("2", "3", "4", "5")),
        )  # fmt: skip
        self.received = Counter(
            "relay_messages_received",
            "Messages accepted: on disk, answered with 250",
            ("listener", "auth"),
            (),
        )
        self.received_bytes = Counter("relay_received_bytes", "Octets of the messages accepted")
        self.received_recipients = Counter("relay_received_recipients", "Recipients of the messages accepted")
        self.rejected = Counter(
            "relay_messages_rejected", "Refusals of MAIL, RCPT and messages",
            ("stage", "code", "enhanced", "reason"),
            (*sorted(labels.KNOWN_REFUSALS), *labels.OTHER_REFUSALS),
        )  # fmt: skip
        self.auth = Counter(
            "relay_auth", "Logins of clients, by what became of them", ("mechanism", "result"),
            product(labels.AUTH_MECHANISMS, labels.AUTH_RESULTS),
        )  # fmt: skip
        self.users = Gauge("relay_users", "Users who may log in")
        self.users_errors = Counter(
            "relay_users_file_errors", "Wrong lines found in users_file, and times it could not be read"
        )
        self.normalized = Counter(
            "relay_bare_newlines_normalized", "Messages whose bare CR or LF became CRLF"
        )

        self.certificate_ends = Gauge(
            "relay_cert_not_after_timestamp_seconds",
            "When the certificate shown to clients expires; missing without TLS",
            (),
            (),
        )
        self.certificate_reloads = Counter(
            "relay_cert_reloads",
            "Certificates swapped while running, and those that could not be used",
            ("result",),
            _one(labels.TLS_RESULTS),
        )

    def _queue(self) -> None:
        self.commit = Histogram(
            "relay_spool_fsync_seconds",
            "One group commit, from its first write to the end of its sync",
            COMMIT_BOUNDS,
        )
        self.committed = Counter("relay_spool_committed_entries", "Changes of queue entries made durable")
        self.spool_errors = Counter(
            "relay_spool_errors", "Failed operations on the spool", ("op",), _one(labels.SPOOL_OPERATIONS)
        )
        self.quarantined = Counter("relay_quarantined", "Messages set aside because their checksum fails")
        self.possible_duplicates = Counter(
            "relay_possible_duplicates",
            "Messages in flight at a crash, tried again: their peer may have them already",
        )
        self.crash_held = Counter(
            "relay_crash_held", "Messages held because they were in flight at too many crashes"
        )
        self.orphans = Counter("relay_orphan_files", "Content files without a message, removed after a crash")
        self.removed = Counter(
            "relay_messages_removed", "Messages that left the queue: every recipient is final"
        )
        self.operator = Counter(
            "relay_operator_actions",
            "Messages changed by an operator",
            ("action",),
            _one(labels.OPERATOR_ACTIONS),
        )

    def _delivery(self) -> None:
        self.deliveries = Counter(
            "relay_deliveries", "Recipients by what an attempt made of them", ("route", "result"), ()
        )
        self.delivery_attempts = Counter(
            "relay_delivery_attempts", "Attempts, one per message and next hop", ("route",), ()
        )
        self.failures = Counter(
            "relay_delivery_failures", "Recipients deferred or bounced, by stage and kind of status code",
            ("stage", "enhanced"), product(STAGES, labels.SUBJECTS),
        )  # fmt: skip
        self.delivery_delay = Histogram(
            "relay_delivery_delay_seconds",
            "From our 250 to the next hop's, per recipient",
            DELAY_BOUNDS,
            ("route",),
            (),
        )
        self.stage = Histogram(
            "relay_delivery_stage_seconds",
            "Parts of an attempt",
            STAGE_BOUNDS,
            ("stage",),
            _one(labels.STAGE_TIMES),
        )
        self.last_success = Gauge(
            "relay_route_last_success_timestamp_seconds",
            "When a next hop last took a message, 0: never",
            ("route",),
            (),
        )
        self.route_up = Gauge("relay_route_up", "0 while a configured route is suspended", ("route",), ())
        self.route_fault = Gauge(
            "relay_route_fault",
            "Next hops of a route that refuse our login, TLS policy or token",
            ("route", "reason"),
            (),
        )
        self.suspended = Gauge(
            "relay_destination_suspended",
            "Next hops suspended as a whole",
            ("reason",),
            _one(labels.SUSPEND_REASONS),
        )
        self.ambiguous = Counter(
            "relay_ambiguous", "Final dots without an answer: the peer may have the message"
        )
        self.dsn = Counter(
            "relay_dsn", "Delivery status notifications", ("action",), _one(labels.DSN_ACTIONS)
        )

    def _connections(self) -> None:
        self.out_connections = Gauge(
            "relay_outbound_connections", "Open connections to next hops", ("route",), ()
        )
        self.out_connected = Counter(
            "relay_outbound_connected", "Connections made to next hops", ("route",), ()
        )
        self.reused = Counter("relay_outbound_reused", "Transactions on a kept connection")
        self.retried_fresh = Counter(
            "relay_outbound_retried_fresh",
            "Kept connections found dead, so that a fresh one was made",
            ("route",),
            (),
        )
        self.throttle_delay = Counter(
            "relay_throttle_delay_seconds",
            "Time in which mail waited for the rate of its route, lane by lane",
            ("route",),
            (),
        )
        self.dns = Counter(
            "relay_dns_lookups",
            "DNS questions",
            ("type", "result"),
            product(labels.DNS_KINDS, labels.DNS_RESULTS),
        )
        self.refused_addresses = Counter(
            "relay_refused_addresses", "MX answers inside loopback, private or link-local space, not used"
        )
        self.tls = Counter(
            "relay_tls_sessions", "TLS sessions, in and out", ("direction", "version", "policy", "result"),
            (
                (direction, version, policy, result)
                for direction, policies in labels.TLS_POLICIES.items()
                for version, policy, result in product(labels.TLS_VERSIONS, policies, labels.TLS_RESULTS)
            ),
        )  # fmt: skip

    def _process(self) -> None:
        self.bugs = Counter("relay_bugs", "Exceptions nobody expected", ("where",), _one(labels.BUG_PLACES))
        self.lag = Histogram(
            "relay_event_loop_lag_seconds", "How late the event loop ran a timer", LAG_BOUNDS
        )
        self.reloads = Counter("relay_config_reloads", "Reloads", ("result",), [("ok",), ("failed",)])
        self.reload_ok = Gauge("relay_config_last_reload_success", "1 unless the last reload failed")
        self.reload_ok.set((), 1)
        self.log_dropped = Watched("relay_log_lines_dropped", "Log lines lost because nobody read them")
        self.build = Gauge(
            "relay_build_info",
            "1, with the version",
            ("version", "python"),
            [(__version__, platform.python_version())],
        )
        self.build.inc((__version__, platform.python_version()))


def route_names(config: Config) -> list[str]:
    """The names of the configured routes; the default is a route's place in the list."""
    return [route.name or str(place) for place, route in enumerate(config.routes, 1)]
