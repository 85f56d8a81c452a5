"""How a lane fares, as plain values for `relay explain` and `relay queue show`."""

from __future__ import annotations

from relay.delivery.faults import to_mend
from relay.delivery.health import Condition
from relay.delivery.lane import Lane
from relay.delivery.tools import Tools


def describe(name: str, lane: Lane | None, condition: Condition, tools: Tools) -> dict[str, object]:
    """condition: of the record, where the lane is not in memory.

    state: "healthy", "suspended", "probing", "ramping"; reason, host, reply: of the last trouble, "" when
    healthy; since, until: epoch seconds of its begin and of the next probe, 0.0 where there is none; probes:
    failed ones since; in_memory: False for a lane without work in hand; faults: see describe_faults;
    connections: open now, busy: of them, opening, allowed: by the window, limit: by configuration; waiting:
    entries in memory that wait for a connection; rate: as configured ("30/min"), "" without one; rate_until:
    epoch seconds when the next message may go, 0.0 unless mail waits for that.
    """
    condition = lane.condition if lane is not None else condition
    trouble, offset = condition.trouble, tools.clock.time() - tools.clock.monotonic()
    state: dict[str, object] = {
        "lane": name,
        "state": condition.health.value,
        "reason": trouble.reason if trouble else "",
        "host": trouble.host if trouble else "",
        "reply": trouble.reply.line if trouble else "",
        "since": condition.since + offset if trouble else 0.0,
        "until": condition.until + offset if trouble and not condition.takes else 0.0,
        "probes": condition.probes,
        "in_memory": lane is not None,
        "faults": describe_faults(tools, name.removeprefix("route:")) if name.startswith("route:") else [],
    }
    return state | _work(lane) | _pace(lane, offset)


def _pace(lane: Lane | None, offset: float) -> dict[str, object]:
    throttle = lane.throttle if lane is not None else None
    if lane is None or throttle is None:
        return {"rate": "", "rate_until": 0.0}
    waits = throttle.waits(lane)
    return {
        "rate": str(throttle.bucket.rate),
        "rate_until": throttle.bucket.free_at + offset if waits else 0.0,
    }


def describe_faults(tools: Tools, route: str = "") -> list[dict[str, object]]:
    """The standing faults (of a route): route, reason, host (who said it), reply, since and until, epoch
    seconds of their begin and of when the host is asked again; username and login_by ("password" or "oauth"):
    the route's, "" without a login; files: the paths of what may be wrong, none where a secret stands in the
    configuration."""
    offset = tools.clock.time() - tools.clock.monotonic()
    return [
        {
            "route": key[0],
            "reason": fault.reason,
            "host": fault.host,
            "reply": fault.reply.line,
            "since": fault.since + offset,
            "until": fault.until + offset,
            **_where(tools, key[0], fault.reason),
        }
        for key, fault in tools.faults.records.items()
        if not route or key[0] == route
    ]


def _where(tools: Tools, route: str, reason: str) -> dict[str, object]:
    policy = tools.table.policy(f"route:{route}")
    if policy is None:
        return {"username": "", "login_by": "", "files": []}
    username, by = (policy.login.username, policy.login.by) if policy.login is not None else ("", "")
    return {"username": username, "login_by": by, "files": list(to_mend(policy, reason))}


def _work(lane: Lane | None) -> dict[str, object]:
    if lane is None:
        return dict.fromkeys(("connections", "busy", "opening", "allowed", "limit", "waiting"), 0)
    links = lane.links
    return {
        "connections": links.working,
        "busy": len(links.busy),
        "opening": links.opening,
        "allowed": int(links.window.size),
        "limit": lane.policy.concurrency,
        "waiting": len(lane.fresh) + len(lane.waiting),
    }
