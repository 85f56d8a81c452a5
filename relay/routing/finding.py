"""What was found about each host of a lane, and the verdict on all of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relay.reply import Reply
from relay.routing.hosts import DnsDeferred, DnsFailed, Host, Hosts, Resolution

State = Literal["usable", "refused", "nothing", "trouble", "family", "ours"]
_LISTED = 5  # hosts or addresses named in a reply's text


@dataclass(frozen=True, slots=True)
class Finding:
    """One host. state: usable (has addresses), refused (only in refused space), nothing (definitely no host
    or no address), trouble (the DNS did not say), family (only addresses that delivery.ip excludes), ours."""

    name: str
    port: int
    implicit_tls: bool = False
    preference: int = 0
    state: State = "nothing"
    addresses: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()  # (address, why)
    text: str = ""

    def with_addresses(self, addresses: Sequence[str], refused: tuple[tuple[str, str], ...] = ()) -> Finding:
        state: State = "usable" if addresses else "refused"
        return replace(self, state=state, addresses=tuple(addresses), refused=refused)

    def with_trouble(self, text: str) -> Finding:
        return replace(self, state="trouble", text=text)

    def with_nothing(self, text: str) -> Finding:
        return replace(self, state="nothing", text=text)

    def with_other_family(self) -> Finding:
        return replace(self, state="family", text="has only addresses that delivery.ip excludes")

    def as_ours(self, addresses: Sequence[str]) -> Finding:
        return replace(self, state="ours", addresses=tuple(addresses), text="this host")


@dataclass(frozen=True, slots=True)
class Survey:
    """name: the mail domain (for `via`, the first hop). dropped: hosts behind or beside our own. settled: the
    verdict where there was nothing to find."""

    name: str
    findings: tuple[Finding, ...] = ()
    dropped: tuple[Finding, ...] = ()
    implicit: bool = False
    looped: bool = False
    settled: Resolution | None = None

    def plus(self, findings: Sequence[Finding]) -> Survey:
        return replace(self, findings=(*self.findings, *findings))

    def behind(self, findings: Sequence[Finding]) -> Survey:
        """Hosts that were not asked about: our own name, and those of its preference or a higher number."""
        return replace(self, dropped=(*self.dropped, *findings), looped=True)

    def below(self, preference: int) -> Survey:
        kept = tuple(finding for finding in self.findings if finding.preference < preference)
        dropped = tuple(finding for finding in self.findings if finding.preference >= preference)
        return replace(self, findings=kept, dropped=dropped, looped=True)

    def room_taken(self, share: int) -> int:
        """Addresses that an attempt can use, at most `share` of each host."""
        return sum(min(share, len(finding.addresses)) for finding in self.findings)


def judge(survey: Survey) -> Resolution:
    """The verdict. Usable addresses win; then doubt (temporary); a permanent verdict needs every host
    definite."""
    if survey.settled is not None:
        return survey.settled
    usable = [finding for finding in survey.findings if finding.state == "usable"]
    if usable:
        return Hosts(tuple(_host(finding) for finding in usable))
    states = {finding.state for finding in survey.findings}
    if "trouble" in states:
        return verdict("4.4.3", f"DNS lookup for {survey.name} failed: {_listed(survey, 'trouble')}")
    if "refused" in states:
        return verdict(
            "4.4.4", f"addresses of {survey.name} are in refused networks: {_listed(survey, 'refused')}"
        )
    if "family" in states:
        return verdict("4.4.4", f"no usable address for {survey.name}: {_listed(survey, 'family')}")
    if survey.looped:
        return verdict("5.4.6", f"mail for {survey.name} loops back to this host")
    if survey.implicit:
        return verdict("5.4.4", f"domain {survey.name} has no MX and no address")
    return verdict("5.4.4", f"no MX host of {survey.name} exists: {_listed(survey, 'nothing')}")


def verdict(enhanced: str, text: str) -> DnsFailed | DnsDeferred:
    """The enhanced code (RFC 3463) decides: 5.x.x is permanent, 4.4.3 is trouble with the DNS, 4.4.4 with
    addresses."""
    reply = Reply(0, enhanced, text)
    if enhanced.startswith("5."):
        return DnsFailed(reply)
    return DnsDeferred(reply, "dns" if enhanced == "4.4.3" else "address")


def _host(finding: Finding) -> Host:
    return Host(finding.name, finding.addresses, finding.port, finding.implicit_tls, finding.preference)


def _listed(survey: Survey, state: State) -> str:
    found = [_told(finding) for finding in survey.findings if finding.state == state]
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return "; ".join(found[:_LISTED]) + more


def _told(finding: Finding) -> str:
    refused = ", ".join(f"{address} ({why})" for address, why in finding.refused[:_LISTED])
    if finding.refused and finding.refused[0][0] == finding.name:  # an address literal
        return refused
    reason = refused or finding.text
    return f"{finding.name}: {reason}" if reason else finding.name
