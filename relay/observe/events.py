"""Every event of the relay: one function writes its log line and moves its metric.

No other module logs or counts. Arguments are plain values; nothing here blocks or raises. `route` is a configured
route's name, or "mx". Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.envelope import Envelope
from relay.outcome import Outcome
from relay.reply import Reply


class Events:
    """One object, made in app.py and handed to everything."""

    # --- front
    def session_opened(self, listener: str, client: str) -> None: ...
    def session_refused(self, listener: str, client: str, reason: str) -> None:
        """reason: one of "sessions", "sessions_per_client", "closing", "files"."""

    def session_closed(self, listener: str, client: str) -> None: ...
    def command(self, verb: str, code: int) -> None:
        """verb: a known SMTP verb or "other". Hot: once per command."""

    def rejected(
        self, listener: str, client: str, stage: str, reply: Reply, reason: str, sender: str = "", recipient: str = ""
    ) -> None:
        """A MAIL, RCPT or message was refused (4xx or 5xx).

        stage: connect, helo, mail, rcpt, data; reason: one of REJECT_REASONS."""

    def received(self, name: str, envelope: Envelope, size: int, recipients: int) -> None:
        """Accepted and durable: 250 is being written."""

    def normalized(self, client: str) -> None:
        """Bare CR or LF in a message was turned into CRLF."""

    # --- queue
    def committed(self, seconds: float, entries: int) -> None:
        """One group commit: from its first write to the end of its sync."""

    def spool_error(self, operation: str, error: BaseException) -> None:
        """operation: write, sync, read, checkpoint, open, space."""

    def quarantined(self, name: str, reason: str) -> None: ...
    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        """At start, after an unclean stop."""

    def removed(self, name: str) -> None:
        """Every recipient is final (Postfix: "removed")."""

    def operator(self, action: str, entries: int, filter_text: str) -> None:
        """action: hold, release, retry, drop."""

    # --- delivery
    def attempted(
        self,
        name: str,
        route: str,
        sender: str,
        results: Sequence[tuple[str, Outcome]],
        delay: float,
        stages: tuple[float, float, float, float],
    ) -> None:
        """End of one attempt of one entry: a line per (recipient, outcome).

        delay: accept to now; stages as Postfix's delays=a/b/c/d: in queue before this attempt, waiting for a
        connection, connection set-up, transmission."""

    def expired(self, name: str, route: str, recipients: int) -> None: ...
    def stage(self, stage: str, seconds: float) -> None:
        """stage: dns, connect, tls, auth, envelope, data, final. Hot."""

    def connection_opened(self, route: str) -> None: ...
    def connection_closed(self, route: str) -> None: ...
    def connection_reused(self) -> None: ...
    def retried_fresh(self, route: str) -> None:
        """A kept connection was dead before the first reply: not an attempt."""

    def lane_suspended(self, lane: str, reason: str, seconds: float, text: str) -> None:
        """reason: one of SUSPEND_REASONS; seconds until the probe."""

    def lane_resumed(self, lane: str, reason: str) -> None: ...
    def dns_lookup(self, kind: str, result: str) -> None:
        """kind: mx, a, aaaa; result: ok, nxdomain, nodata, servfail, timeout, refused, error."""

    def refused_address(self, domain: str, address: str) -> None:
        """An MX answer points into loopback, private or link-local space: alarm."""

    def ambiguous(self, name: str, host: str) -> None: ...
    def tls(self, direction: str, version: str, policy: str, result: str) -> None: ...
    def dsn(self, action: str, name: str, original: str) -> None:
        """action: failed, delayed, delivered, relayed, or "dropped" for what could not be sent to anybody."""

    # --- process
    def started(self, text: str) -> None: ...
    def stopping(self, text: str) -> None: ...
    def reloaded(self, success: bool, text: str) -> None: ...
    def bug(self, where: str, error: BaseException) -> None:
        """An exception nobody expected: one traceback in the log, counted by `where`."""

    def warning(self, text: str) -> None: ...
    def info(self, text: str) -> None: ...
    def loop_lag(self, seconds: float) -> None: ...


REJECT_REASONS = (
    "policy", "syntax", "size", "space", "recipients", "loop", "sequence", "newline", "spool", "timeout", "bug",
    "closing", "address", "abuse",
)  # fmt: skip
SUSPEND_REASONS = ("connect", "greeting", "tls", "auth", "dns", "address", "capture", "limit")
