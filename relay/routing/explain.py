"""What `relay explain ADDRESS` shows about routing, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relay.config.units import format_rate
from relay.routing.finding import Finding, Survey, judge
from relay.routing.hosts import Hosts
from relay.routing.resolve import Resolver
from relay.routing.table import LanePolicy, RouteTable


async def describe(
    table: RouteTable,
    resolver: Resolver,
    recipient: str,
    sender: str = "",
    rewritten: Callable[[str], str] = str,
) -> dict[str, Any]:
    """Where mail from `sender` ("" is the null sender) to `recipient` would go now; JSON-ready.

    rewritten: a sender -> the one in its place, or itself.

    keys: recipient, sender, orig_from (what the sender was before, "" where it is the same), lane, route,
    kind, domain, port, tls, concurrency, messages_per_connection; rate ("30/min", "" without one),
    connections (of the route in all, or None); ca_file, username, login_by ("password" or "oauth"),
    login_over, capture: text, None where there is none; login_files: the paths of its secrets;
    verdict ("hosts", "failed", "deferred", "capture"),
    reply (text, "" with hosts), and hosts: a list in the order of preference of {name, preference, port,
    implicit_tls, state, addresses, refused: [{address, why}], text}; `state` as in
    finding.Finding, "dropped" for a host behind or beside our own.
    """
    original, sender = sender, rewritten(sender)
    lane = table.lane(sender, recipient)
    policy = table.policy(lane)
    if policy is None:  # the table names only lanes that it knows
        raise LookupError(f"the route table does not know its own lane {lane!r}")
    orig_from = original if sender != original else ""
    facts = {"recipient": recipient, "sender": sender, "orig_from": orig_from, **_policy_facts(policy)}
    if policy.kind == "capture":
        return {**facts, "verdict": "capture", "reply": "", "hosts": []}
    survey = await resolver.survey(policy, complete=True)
    return {**facts, **_verdict_facts(survey), "hosts": _host_facts(survey)}


def _policy_facts(policy: LanePolicy) -> dict[str, Any]:
    return {
        "lane": policy.lane,
        "route": policy.route,
        "kind": policy.kind,
        "domain": policy.domain,
        "port": policy.port,
        "tls": policy.tls,
        "ca_file": str(policy.ca_file) if policy.ca_file else None,
        "username": policy.login.username if policy.login else None,
        "login_by": policy.login.by if policy.login else None,
        "login_over": policy.login.over if policy.login else None,
        "login_files": [str(path) for path in policy.login.files] if policy.login else [],
        "concurrency": policy.concurrency,
        "messages_per_connection": policy.messages_per_connection,
        "rate": format_rate(*policy.rate) if policy.rate else "",
        "connections": policy.connections,
        "capture": str(policy.capture) if policy.capture else None,
    }


def _verdict_facts(survey: Survey) -> dict[str, Any]:
    resolution = judge(survey)
    if isinstance(resolution, Hosts):
        return {"verdict": "hosts", "reply": ""}
    permanent = resolution.reply.enhanced.startswith("5.")
    return {"verdict": "failed" if permanent else "deferred", "reply": resolution.reply.line}


def _host_facts(survey: Survey) -> list[dict[str, Any]]:
    dropped = [
        _finding_facts(finding, "ours" if finding.state == "ours" else "dropped")
        for finding in survey.dropped
    ]
    return [_finding_facts(finding, finding.state) for finding in survey.findings] + dropped


def _finding_facts(finding: Finding, state: str) -> dict[str, Any]:
    return {
        "name": finding.name,
        "preference": finding.preference,
        "port": finding.port,
        "implicit_tls": finding.implicit_tls,
        "state": state,
        "addresses": list(finding.addresses),
        "refused": [{"address": address, "why": why} for address, why in finding.refused],
        "text": finding.text,
    }
