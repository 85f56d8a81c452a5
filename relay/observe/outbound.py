"""The events of delivery: attempts, connections, lanes, DNS, reports."""

from __future__ import annotations

from collections.abc import Sequence

from relay.observe import labels
from relay.observe.log import INFO, WARNING
from relay.observe.recorder import Recorder, address
from relay.observe.text import plural
from relay.outcome import Deferred, Delivered, Failed, Outcome

STATUS: dict[type[Delivered] | type[Deferred] | type[Failed], tuple[str, str, str]] = {
    Delivered: ("sent", "delivered", "2.0.0"),
    Deferred: ("deferred", "deferred", "4.0.0"),
    Failed: ("bounced", "bounced", "5.0.0"),
}
_TOOK = "delay=%.2f, delays=%.2f/%.2f/%.2f/%.2f"
PHRASES = {
    "mail": "MAIL FROM command", "rcpt": "RCPT TO command", "data": "DATA command",
    "dot": "end of DATA command", "ehlo": "EHLO command", "starttls": "STARTTLS command",
    "auth": "AUTH command", "greeting": "greeting",
}  # fmt: skip


class AttemptEvents(Recorder):
    """What becomes of messages."""

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
        connection, connection set-up, transmission. A Failed of stage "age" is logged here and counted by
        `expired`."""
        self.metrics.delivery_attempts.inc((route,))
        delivered = 0
        for _, outcome in results:
            if type(outcome) is Delivered:
                delivered += 1
            else:
                self._count(route, outcome)
        if delivered:
            self.metrics.deliveries.inc((route, "delivered"), delivered)
            self.metrics.last_success.set((route,), self.clock())
            self.metrics.delivery_delay.observe(delay, (route,), delivered)
        if self.log.level > INFO:
            return
        if self.log.json:
            self._objects(name, route, sender, results, delay, stages)
        else:
            self._lines_of(name, results, _TOOK % (delay, *stages))

    def _count(self, route: str, outcome: Outcome) -> None:
        if isinstance(outcome, Delivered):
            return
        self.metrics.failures.inc((outcome.stage, labels.subject(outcome.reply.enhanced)))
        if outcome.stage != "age":
            self.metrics.deliveries.inc((route, STATUS[type(outcome)][1]))

    def _lines_of(self, name: str, results: Sequence[tuple[str, Outcome]], took: str) -> None:
        for recipient, outcome in results:
            status, _, default = STATUS[type(outcome)]
            dsn = outcome.reply.enhanced or default
            self.log.write(
                INFO, "smtp", "attempt",
                f"{name}: to=<{address(recipient)}>, relay={outcome.host or 'none'}, {took}, dsn={dsn}, "
                f"status={status} ({_said(outcome)})",
            )  # fmt: skip

    def _objects(
        self,
        name: str,
        route: str,
        sender: str,
        results: Sequence[tuple[str, Outcome]],
        delay: float,
        stages: tuple[float, float, float, float],
    ) -> None:
        for recipient, outcome in results:
            status, _, default = STATUS[type(outcome)]
            reply = outcome.reply
            self.log.write(
                INFO, "smtp", "attempt", "", queue_id=name, route=route, sender=sender, recipient=recipient,
                relay=outcome.host, delay=delay, delays=stages, dsn=reply.enhanced or default, status=status,
                code=reply.code, reply=reply.text,
                stage="" if isinstance(outcome, Delivered) else outcome.stage,
            )  # fmt: skip

    def expired(self, name: str, route: str, recipients: int) -> None:
        """Recipients older than give_up, failed with their last reply."""
        self.metrics.deliveries.inc((route, "expired"), recipients)
        text = f"{name}: expired: {plural(recipients, 'recipient')} given up"
        self.log.write(INFO, "qmgr", "expired", text, queue_id=name, route=route, recipients=recipients)

    def stage(self, stage: str, seconds: float) -> None:
        """stage: dns, connect, tls, auth, envelope, data, final. Hot."""
        cell = self._stages.get(stage)
        if cell is None:
            cell = self.metrics.stage.cell((stage,))
        cell.observe(seconds)

    def ambiguous(self, name: str, host: str) -> None:
        """No answer to the final dot: the peer may have the message."""
        self.metrics.ambiguous.inc()
        text = f"warning: {name}: {host} did not answer the final dot and may have the message"
        self.log.write(WARNING, "smtp", "ambiguous", text, queue_id=name, relay=host)

    def dsn(self, action: str, name: str, original: str) -> None:
        """action: failed, delayed, delivered, relayed, or "dropped" for what could not be sent to anybody.

        name: the queue id of the report where there is one; original: that of the message it is about."""
        self.metrics.dsn.inc((action,))
        told = (
            f"{original}: notification dropped: nobody to send it to"
            if action == "dropped"
            else (f"{original}: sender {action} notification: {name}")
        )
        self.log.write(INFO, "bounce", "dsn", told, action=action, queue_id=original, report=name)


class LaneEvents(Recorder):
    """Connections, lanes and DNS."""

    def connection_opened(self, route: str) -> None:
        """A connection to a next hop got as far as its greeting and EHLO."""
        self.metrics.out_connections.inc((route,))
        self.metrics.out_connected.inc((route,))

    def connection_closed(self, route: str) -> None:
        """The end of what connection_opened told."""
        self.metrics.out_connections.inc((route,), -1)

    def connection_reused(self) -> None:
        """A transaction begins on a kept connection."""
        self.metrics.reused.values[()] += 1

    def retried_fresh(self, route: str) -> None:
        """A kept connection was dead before the first reply: not an attempt."""
        self.metrics.retried_fresh.inc((route,))

    def throttled(self, route: str, seconds: float) -> None:
        """The rate of a route held a message back for so long; it goes as soon as there is a connection."""
        self.metrics.throttle_delay.inc((route,), seconds)

    def lane_suspended(self, lane: str, reason: str, seconds: float, text: str) -> None:
        """reason: one of SUSPEND_REASONS; seconds until the probe. Again for a longer suspension is fine."""
        self._forget(lane)
        self._lanes[lane] = reason
        self.suspended[reason] = self.suspended.get(reason, 0) + 1
        self.metrics.suspended.inc((reason,))
        self._up(lane, 0)
        told = f"warning: {lane} suspended ({reason}), probing in {seconds:.0f} s: {text}"
        self.log.write(
            WARNING,
            "qmgr",
            "suspended",
            told,
            lane=lane,
            reason=reason,
            seconds=round(seconds, 1),
            reply=text,
        )

    def lane_resumed(self, lane: str, reason: str) -> None:
        """The lane works again (or is not needed any more)."""
        self._forget(lane)
        self._up(lane, 1)
        self.log.write(INFO, "qmgr", "resumed", f"{lane} resumed (was: {reason})", lane=lane, reason=reason)

    def lane_forgotten(self, lane: str) -> None:
        """It may still be in trouble, but is not remembered any more: there are too many."""
        self._forget(lane)

    def route_fault(
        self, route: str, host: str, reason: str, seconds: float, text: str, files: Sequence[str] = ()
    ) -> None:
        """A next hop of a route refuses our login, TLS policy or token; reason: one of FAULT_REASONS; host:
        as configured; seconds until it is asked again; files: the paths of what may be wrong."""
        self.metrics.route_fault.inc((route, reason))
        told = f"warning: route {route}: {host} at fault ({reason}), asked again in {seconds:.0f} s"
        told += f", see {' and '.join(files)}: {text}" if files else f": {text}"
        self.log.write(
            WARNING, "smtp", "route_fault", told, route=route, host=host, reason=reason,
            seconds=round(seconds, 1), reply=text, files=tuple(files),
        )  # fmt: skip

    def route_fault_ended(self, route: str, host: str, reason: str) -> None:
        """It works again, or is not a next hop any more."""
        self.metrics.route_fault.inc((route, reason), -1)
        told = f"route {route}: {host} no longer at fault (was: {reason})"
        self.log.write(INFO, "smtp", "route_fault_ended", told, route=route, host=host, reason=reason)

    def _forget(self, lane: str) -> None:
        reason = self._lanes.pop(lane, None)
        if reason is not None:
            self.suspended[reason] -= 1
            self.metrics.suspended.inc((reason,), -1)

    def _up(self, lane: str, value: int) -> None:
        key = (
            lane.removeprefix("route:"),
        )  # a route by MX has a lane per domain, "route:NAME:DOMAIN": not here
        if key in self.metrics.route_up.values:
            self.metrics.route_up.set(key, value)

    def dns_lookup(self, kind: str, result: str) -> None:
        """kind: mx, a, aaaa; result: ok, nxdomain, nodata, servfail, timeout, refused, error."""
        self.metrics.dns.inc((kind, result))

    def refused_address(self, domain: str, address: str) -> None:
        """An MX answer points into loopback, private or link-local space: alarm."""
        self.metrics.refused_addresses.inc()
        text = (
            f"warning: the MX of {domain} points to {address} inside refused address space: "
            "not used (delivery.allow_networks permits it)"
        )
        self.log.write(WARNING, "smtp", "refused_address", text, domain=domain, address=address)


def _said(outcome: Outcome) -> str:
    """The words in brackets after status=, as Postfix has them: who said what, in reply to which command."""
    line = outcome.reply.line or "no reply"
    if isinstance(outcome, Delivered) or not (outcome.host and outcome.reply.code):
        return line
    phrase = PHRASES.get(outcome.stage)
    return f"host {outcome.host} said: {line}" + (f" (in reply to {phrase})" if phrase else "")
