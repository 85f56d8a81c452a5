"""One question to the DNS servers, by dnspython, and its answer as a value.

`DnsClient.query` never raises for what the DNS says or fails to say. Each try takes at most 5 s, a question
15 s; a truncated answer is asked again over TCP; every configured server gets its turn. Only definite answers
(ok, nxdomain, nodata) are believed: an empty answer that is a referral, or that comes from a server which
neither recurses nor is responsible (lame), is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdatatype
import dns.resolver

from relay.routing.literal import as_address
from relay.routing.via import parse_port, split_port

Kind = Literal[
    "MX", "A", "AAAA", "HOST"
]  # HOST: the system's own way (hosts file, search list), see lookup.py
Result = Literal["ok", "nxdomain", "nodata", "servfail", "timeout", "refused", "error"]
DEFINITE = frozenset({"ok", "nxdomain", "nodata"})

TRY_SECONDS, QUESTION_SECONDS = 5.0, 15.0
MAX_EXCHANGES, MAX_ADDRESSES = 20, 10  # of one answer; the rest is not looked at
DNS_PORT = 53
_PAYLOAD = 1232  # octets over UDP: no fragments on common paths (DNS flag day 2020)


@dataclass(frozen=True, slots=True)
class Answer:
    """exchanges: (preference, host name, "" for the root) sorted by preference; addresses: canonical IP
    texts.

    ttl: seconds as the DNS says; text: for people, why there is no answer ("SERVFAIL from 192.0.2.53:53");
    sure: that there is nothing was said twice."""

    result: Result
    exchanges: tuple[tuple[int, str], ...] = ()
    addresses: tuple[str, ...] = ()
    ttl: float = 0.0
    text: str = ""
    sure: bool = False

    @property
    def definite(self) -> bool:
        return self.result in DEFINITE


def parse_server(text: str) -> tuple[str, int]:
    """ "ip", "ip:port", "[v6]:port" -> (address, port). ValueError with advice; a name is none: who would
    ask?"""
    try:
        bare = as_address(text.strip())
        host, port = (bare, None) if bare else split_port(text.strip())
        return str(ip_address(host)), parse_port(port) if port is not None else DNS_PORT
    except ValueError:
        raise ValueError(
            f"{text!r}: write an IP address with or without a port, as in 127.0.0.1:5353"
        ) from None


class DnsClient:
    """The configured servers, or the system's (read once, when this object is made)."""

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        try_seconds: float = TRY_SECONDS,
        question_seconds: float = QUESTION_SECONDS,
    ) -> None:
        """servers as in `dns.servers`; empty: the system's, or 127.0.0.1 where the system names none."""
        self._seconds = question_seconds
        named = [dns.nameserver.Do53Nameserver(*parse_server(text)) for text in servers] or _system_servers()
        # The second resolver asks the same servers from the second one on: a confirmation by somebody else.
        self._resolvers = tuple(_resolver(order, try_seconds) for order in (named, named[1:] + named[:1]))

    async def query(self, name: str, kind: Kind, *, again: bool = False) -> Answer:
        """name: folded, absolute without the final dot, checked by domain.is_name; again: begin with another
        server."""
        question = dns.name.Name([label.encode("ascii") for label in name.split(".")] + [b""])
        try:
            async with asyncio.timeout(self._seconds + 1):
                found = await self._resolvers[again].resolve(
                    question, kind, raise_on_no_answer=False, search=False, lifetime=self._seconds
                )
        except dns.resolver.NXDOMAIN as error:
            return Answer("nxdomain", ttl=_negative_ttl(error, question), text="NXDOMAIN")
        except (dns.exception.DNSException, TimeoutError) as error:
            return _trouble(error)
        return _answer(found)


def _system_servers() -> list[dns.nameserver.Do53Nameserver]:
    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration:
        found = ["127.0.0.1"]
    return [dns.nameserver.Do53Nameserver(server) for server in found if isinstance(server, str)]


def _resolver(servers: Sequence[dns.nameserver.Nameserver], try_seconds: float) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = list(servers)
    resolver.timeout = try_seconds
    resolver.use_edns(0, 0, _PAYLOAD)
    return resolver


def _answer(found: dns.resolver.Answer) -> Answer:
    ttl = float(found.chaining_result.minimum_ttl)
    if found.rrset is None:
        if _lame(found.response):
            return Answer("error", text=f"lame answer from {found.nameserver}:{found.port}")
        return Answer("nodata", ttl=ttl, text="no such record")
    if found.rdtype == dns.rdatatype.MX:
        return Answer("ok", exchanges=_exchanges(found.rrset), ttl=ttl)
    addresses = tuple(str(ip_address(record.address)) for record in list(found.rrset)[:MAX_ADDRESSES])
    return Answer("ok", addresses=addresses, ttl=ttl)


def _exchanges(records: Any) -> tuple[tuple[int, str], ...]:
    """The best MAX_EXCHANGES, each host once, in the order of preference."""
    best: dict[str, int] = {}
    for record in sorted(records, key=lambda record: record.preference):
        host = (
            "" if record.exchange == dns.name.root else record.exchange.to_text(omit_final_dot=True).lower()
        )
        best.setdefault(host, record.preference)
    return tuple((preference, host) for host, preference in list(best.items())[:MAX_EXCHANGES])


def _lame(response: dns.message.Message) -> bool:
    """Is this empty answer a referral, or from a server that cannot know? (RFC 2308 section 2.2)"""
    types = {records.rdtype for records in response.authority}
    if dns.rdatatype.SOA in types:
        return False
    if dns.rdatatype.NS in types:
        return True
    if response.flags & dns.flags.RA:
        return False
    dangling_cname = bool(response.answer)
    return dangling_cname or not response.flags & dns.flags.AA


def _negative_ttl(error: dns.resolver.NXDOMAIN, question: dns.name.Name) -> float:
    responses: dict[dns.name.Name, dns.message.QueryMessage] = error.kwargs["responses"]
    return float(responses[question].resolve_chaining().minimum_ttl)


def _trouble(error: BaseException) -> Answer:
    """No answer: the last server's word says what kind of trouble it is."""
    errors = getattr(error, "kwargs", {}).get("errors") or []
    if not errors:
        late = isinstance(error, (TimeoutError, dns.exception.Timeout))
        return Answer("timeout" if late else "error", text="no answer in time" if late else _text(error))
    _, _, port, reason, response = errors[-1]
    server = str(errors[-1][0]).removeprefix("Do53:").replace(f"@{port}", f":{port}")
    if isinstance(reason, dns.exception.Timeout):
        return Answer("timeout", text=f"no answer in time from {server}")
    code = response.rcode() if response is not None else None
    if code not in (None, dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        results: dict[int, Result] = {dns.rcode.SERVFAIL: "servfail", dns.rcode.REFUSED: "refused"}
        return Answer(results.get(code, "error"), text=f"{dns.rcode.to_text(code)} from {server}")
    return Answer("error", text=f"{_text(reason)} from {server}")


def _text(error: object) -> str:
    text = str(error).strip() or type(error).__name__
    return text[:200]
