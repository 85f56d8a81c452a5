"""The events of the front and of the queue."""

from __future__ import annotations

from mailqueue.errors import MovedAside
from relay.envelope import Envelope
from relay.observe import labels
from relay.observe.log import ERROR, INFO, WARNING
from relay.observe.recorder import Recorder, address
from relay.observe.text import plural
from relay.reply import Reply

NAME_SHOWN = 255  # characters of a login that failed
_AUTH_WHY = {
    "failed": "authentication failure",
    "blocked": "too many failures from this address",
    "busy": "too many logins at once",
    "error": "logins cannot be checked",
    "invalid": "malformed or cancelled",
}
_COMMANDS = {(verb, code): (verb, str(code // 100)) for verb in labels.VERBS for code in range(200, 600)}


class FrontEvents(Recorder):
    """What clients do. `client` is "name[address]", `listener` the configured address."""

    def session_opened(self, listener: str, client: str) -> None:
        """A connection was taken."""
        self.metrics.sessions.inc((listener,))
        self.metrics.in_connections.inc((listener, "accepted"))
        self.log.write(INFO, "smtpd", "connect", f"connect from {client}", client=client, listener=listener)

    def session_refused(self, listener: str, client: str, reason: str) -> None:
        """reason: one of "sessions", "sessions_per_client", "closing", "files"."""
        self.metrics.in_connections.inc((listener, reason))
        text = f"warning: refused connection from {client}: {reason}"
        self.log.write(WARNING, "smtpd", "refused", text, client=client, listener=listener, reason=reason)

    def proxy_refused(self, listener: str, client: str, why: str) -> None:
        """A listed proxy did not begin with a PROXY header; the connection is closed. why: in few words."""
        self.metrics.in_connections.inc((listener, "proxy"))
        text = f"warning: refused connection from {client}: PROXY header: {why}"
        self.log.write(WARNING, "smtpd", "refused", text, client=client, listener=listener, reason="proxy")

    def session_closed(self, listener: str, client: str) -> None:
        """The end of what session_opened told."""
        self.metrics.sessions.inc((listener,), -1)
        self.log.write(
            INFO, "smtpd", "disconnect", f"disconnect from {client}", client=client, listener=listener
        )

    def session_gave_way(self, listener: str, client: str) -> None:
        """A session that did nothing was ended, because places are short. client: "" before it was let in."""
        self.metrics.gave_way.inc()
        text = f"ended the session of {client or 'a proxy'}: places are short"
        self.log.write(INFO, "smtpd", "gave_way", text, client=client, listener=listener)

    def command(self, verb: str, code: int) -> None:
        """verb: a known SMTP verb in capitals or "other". Hot: once per command."""
        values = self.metrics.commands.values
        values[_COMMANDS.get((verb, code)) or _command(verb, code)] += 1

    def rejected(
        self,
        listener: str,
        client: str,
        stage: str,
        reply: Reply,
        reason: str,
        sender: str = "",
        recipient: str = "",
    ) -> None:
        """A MAIL, RCPT or message was refused (4xx or 5xx).

        stage: connect, helo, mail, rcpt, data; reason: one of REJECT_REASONS."""
        self.metrics.rejected.inc(labels.refusal(stage, reply, reason))
        told = "".join(
            (
                f"NOQUEUE: reject: {stage.upper()} from {client}: {reply.line};",
                f" from=<{address(sender)}>",
                f" to=<{address(_bare(recipient))}>" if recipient else "",
            )
        )
        self.log.write(
            INFO, "smtpd", "reject", told, listener=listener, client=client, stage=stage, reason=reason,
            sender=sender, recipient=recipient, code=reply.code, enhanced=reply.enhanced, reply=reply.text,
        )  # fmt: skip

    def login(self, listener: str, client: str, mechanism: str, result: str, name: str) -> None:
        """An AUTH has ended. mechanism: PLAIN, LOGIN or other; result: one of AUTH_RESULTS; name: as given.

        The line of a failure is Postfix's, for what reads logs to ban clients. Hot for "cached"."""
        self.metrics.auth.inc((mechanism, result))
        if result == "cached":
            return
        facts = {"client": client, "listener": listener, "mechanism": mechanism, "login": name[:NAME_SHOWN]}
        if result == "ok":
            text = f"login from {client}: sasl_method={mechanism}, sasl_username={name}"
            self.log.write(INFO, "smtpd", "login", text, **facts)
            return
        user = f", sasl_username={name[:NAME_SHOWN]}" if name else ""
        text = f"warning: {client}: SASL {mechanism} authentication failed: {_AUTH_WHY[result]}{user}"
        self.log.write(WARNING, "smtpd", "login_failed", text, result=result, **facts)

    def users_read(self, number: int) -> None:
        """users_file was read: so many may log in."""
        self.metrics.users.set((), number)
        text = f"users_file: {number} may log in"
        self.log.write(INFO, "smtpd", "users_read", text, users=number)

    def users_trouble(self, text: str) -> None:
        """Something is wrong in or with users_file; text says where and what to do."""
        self.metrics.users_errors.inc()
        self.log.write(WARNING, "smtpd", "users_trouble", f"warning: users_file: {text}", problem=text)

    def received(self, name: str, envelope: Envelope, size: int, recipients: int) -> None:
        """Accepted and durable: 250 is being written. size: octets. Two lines: who gave it, what it is."""
        login, identity = envelope.login, envelope.message_id
        metrics = self.metrics
        metrics.received.inc((envelope.listener, "yes" if login else "no"))
        metrics.received_bytes.values[()] += size
        metrics.received_recipients.values[()] += recipients
        log = self.log
        if log.level > INFO:
            return
        if log.json:
            log.write(
                INFO, "smtpd", "received", "", queue_id=name, client=envelope.client, helo=envelope.helo,
                protocol=envelope.protocol, listener=envelope.listener, login=login, sender=envelope.sender,
                message_id=identity, size=size, recipients=recipients, dsn=envelope.dsn,
                orig_from=envelope.original,
            )  # fmt: skip
            return
        source = f", sasl_username={login}" if login else ""
        named = f", message-id={identity}" if identity else ""
        log.write(INFO, "smtpd", "received", f"{name}: client={envelope.client}{source}{named}")
        sender = address(envelope.sender)
        original = f", orig_from=<{address(envelope.original)}>" if envelope.original else ""
        log.write(
            INFO,
            "qmgr",
            "received",
            f"{name}: from=<{sender}>, size={size}, nrcpt={recipients}{original} (queue active)",
        )

    def normalized(self, client: str) -> None:
        """Bare CR or LF in a message was turned into CRLF."""
        self.metrics.normalized.inc()
        self.log.write(
            INFO, "smtpd", "normalized", f"bare line ends from {client} became CRLF", client=client
        )


def _bare(path: str) -> str:
    """A path as a client wrote it, perhaps malformed: without its angle brackets."""
    return path[1:-1] if path.startswith("<") and path.endswith(">") else path


def _command(verb: str, code: int) -> tuple[str, str]:
    """What the table does not hold: an unknown verb; a code outside 200-599 counts as ours gone wrong."""
    return (verb if verb in labels.VERBS else labels.OTHER, str(code // 100) if 200 <= code < 600 else "5")


class QueueEvents(Recorder):
    """What the queue and its operators do. The first four are the queue's Observer."""

    def committed(self, seconds: float, entries: int) -> None:
        """One group commit: from its first write to the end of its sync."""
        self._commit.observe(seconds)
        self.metrics.committed.values[()] += entries

    def spool_error(self, operation: str, error: BaseException) -> None:
        """operation: open, write, sync, read, checkpoint, content, cleanup, space."""
        known = operation if operation in labels.SPOOL_OPERATIONS else labels.OTHER
        self.metrics.spool_errors.inc((known,))
        text = f"error: spool {operation}: {error}"
        if isinstance(error, MovedAside):
            text += "; `relay queue salvage` brings back what can be read"
        self.log.write(ERROR, "queue", "spool_error", text, operation=operation, error=str(error))

    def quarantined(self, name: str, reason: str) -> None:
        """An entry cannot be read or fails its checksum: set aside, never sent."""
        self.metrics.quarantined.inc()
        self.log.write(
            ERROR, "queue", "quarantined", f"{name}: quarantined: {reason}", queue_id=name, reason=reason
        )

    def recovered(self, possibly_delivered: int, held: int, orphans: int) -> None:
        """At start, after an unclean stop; perhaps twice (orphans are removed later), the numbers add up."""
        self.metrics.possible_duplicates.inc(by=possibly_delivered)
        self.metrics.crash_held.inc(by=held)
        self.metrics.orphans.inc(by=orphans)
        facts = {"possibly_delivered": possibly_delivered, "held": held, "orphans": orphans}
        swept = f"{plural(orphans, 'orphan file')} removed"
        text = f"recovered: {swept}" if orphans else "recovered: nothing was in flight"
        if not possibly_delivered and not held:
            self.log.write(INFO, "queue", "recovered", text, **facts)
            return
        were = "was" if possibly_delivered == 1 else "were"
        text = (
            f"warning: unclean stop: {plural(possibly_delivered, 'message')} {were} in flight, may be "
            f"delivered twice; {held} of them held after too many crashes, {swept}"
        )
        self.log.write(WARNING, "queue", "recovered", text, **facts)

    def removed(self, name: str) -> None:
        """Every recipient is final (Postfix: "removed")."""
        self.metrics.removed.values[()] += 1
        self.log.write(INFO, "qmgr", "removed", f"{name}: removed", queue_id=name)

    def operator(self, action: str, entries: int, filter_text: str) -> None:
        """action: hold, release, retry, drop."""
        self.metrics.operator.inc((action,), entries)
        text = f"operator: {action} {filter_text or 'all'}: {plural(entries, 'message')}"
        self.log.write(WARNING, "queue", "operator", text, action=action, entries=entries, filter=filter_text)
