"""A small DNS server for the demonstration and the tests: a dictionary, on loopback, over UDP and TCP.

It answers with authority for every name: what its records do not hold does not exist. It can also misbehave
as told (`script`), so that every kind of DNS trouble can be played.

    records = {"example.com": [("MX", "10 mx.example.com.")], "mx.example.com": [("A", "192.0.2.1")]}
    async with SmallDns(records) as dns:
        dns.script("example.com", "MX", "servfail", "ok")   # the first question fails
        ... dns.address is "127.0.0.1:PORT"
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Literal, Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Record = tuple[str, str]  # ("MX", "10 mx.example.com.")
Step = Literal[
    "ok",
    "servfail",
    "refused",
    "formerr",
    "nxdomain",
    "nodata",
    "lame",  # an empty answer without authority or recursion
    "referral",  # an empty answer that names other servers, from one that claims to recurse
    "drop",  # no answer; over TCP the connection is closed
    "truncate",  # over UDP only the TC flag; over TCP the answer
    "stall",  # over UDP the TC flag; over TCP never an answer
]
_CODES = {
    "servfail": dns.rcode.SERVFAIL,
    "refused": dns.rcode.REFUSED,
    "formerr": dns.rcode.FORMERR,
    "nxdomain": dns.rcode.NXDOMAIN,
}
_CHAIN = 20  # CNAMEs followed in one answer
_UDP_SIZE = 512  # octets without EDNS (RFC 1035 section 4.2.1)


class SmallDns:
    """Start with `async with` or start()/stop(). `queries` holds the last questions as (name, type,
    "udp"|"tcp")."""

    def __init__(
        self,
        records: Mapping[str, Iterable[Record]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ttl: int = 60,
    ) -> None:
        """records: name without final dot -> (type, text as in a zone file, names absolute). port 0: any free
        one."""
        self._records: dict[str, list[Record]] = {name.lower(): list(held) for name, held in records.items()}
        self._host = host
        self._port = port
        self._ttl = ttl
        self._scripts: dict[tuple[str, str], tuple[deque[Step], Step]] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self.queries: deque[tuple[str, str, str]] = deque(maxlen=10_000)

    @property
    def address(self) -> str:
        """ "127.0.0.1:PORT", as `dns.servers` takes it."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def set(self, name: str, records: Iterable[Record]) -> None:
        """Replace what a name holds; no records: the name exists without any."""
        self._records[name.lower()] = list(records)

    def remove(self, name: str) -> None:
        """From now on the name does not exist (unless names below it do)."""
        self._records.pop(name.lower(), None)

    def script(self, name: str, kind: str, *steps: Step, then: Step = "ok") -> None:
        """The next questions for (name, kind) get `steps`, one each, and all later ones `then`. "*" is any
        name or kind; the more exact script wins."""
        self._scripts[name.lower(), kind] = deque(steps), then

    def asked(self, name: str, kind: str) -> int:
        """How many of the last questions were this one."""
        return sum(1 for query in self.queries if query[:2] == (name.lower(), kind))

    async def start(self) -> None:
        """OSError: the port is taken (with port 0: no port was free for both UDP and TCP in ten tries)."""
        wanted, tries = self._port, 1 if self._port else 10
        for left in reversed(range(tries)):
            try:
                await self._listen(wanted)
                return
            except OSError:
                await self.stop()
                if not left:
                    raise

    async def stop(self) -> None:
        """Idempotent."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        if self._tcp is not None:
            await self._tcp.wait_closed()
        self._udp = self._tcp = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, self._host, port)
        self._port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self._host, self._port)
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        try:
            while (reply := await self._read_tcp(reader)) is not None:
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the peer went
        finally:
            self._sessions.discard(session)
            writer.close()

    async def _read_tcp(self, reader: asyncio.StreamReader) -> bytes | None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        request = _parse(await reader.readexactly(size))
        step = self._step(request, "tcp")
        if step == "stall":
            await asyncio.get_running_loop().create_future()  # until the server stops
        if request is None or step == "drop":
            return None
        return self._answer(request, "ok" if step == "truncate" else step).to_wire(max_size=65535)

    def answer_udp(self, data: bytes) -> bytes | None:
        """The datagram to send back; None for none."""
        request = _parse(data)
        step = self._step(request, "udp")
        if request is None or step == "drop":
            return None
        size = max(request.payload, _UDP_SIZE)
        if step in ("truncate", "stall"):
            return _truncated(request)
        try:
            return self._answer(request, step).to_wire(max_size=size)
        except dns.exception.TooBig:
            return _truncated(request)

    def _step(self, request: dns.message.Message | None, transport: str) -> Step:
        if request is None:
            return "drop"
        name, kind = _question(request)
        self.queries.append((name, kind, transport))
        for key in ((name, kind), (name, "*"), ("*", kind), ("*", "*")):
            if key in self._scripts:
                steps, then = self._scripts[key]
                if steps and steps[0] in ("truncate", "stall") and transport == "udp":
                    return steps[0]  # the same step answers the question when it comes again over TCP
                return steps.popleft() if steps else then
        return "ok"

    def _answer(self, request: dns.message.Message, step: Step) -> dns.message.Message:
        reply = dns.message.make_response(request)
        if step in ("lame", "referral"):
            if step == "referral":
                reply.flags |= dns.flags.RA
                reply.authority.append(_rrset(".", 60, "NS", ["ns.invalid."]))
            return reply
        reply.flags |= dns.flags.AA
        reply.set_rcode(_CODES.get(step, dns.rcode.NOERROR))
        if step == "ok":
            self._fill(reply)
        if not reply.answer and reply.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            reply.authority.append(_rrset(".", 30, "SOA", ["ns.invalid. root.invalid. 1 60 60 60 30"]))
        return reply

    def _fill(self, reply: dns.message.Message) -> None:
        """The answer section and the code: CNAMEs are followed (RFC 1034 section 4.3.2)."""
        name, kind = _question(reply)
        for _ in range(_CHAIN):
            found = [text for type_, text in self._records.get(name, ()) if type_ == kind]
            if found:
                reply.answer.append(_rrset(name, self._ttl, kind, found))
                return
            alias = next((text for type_, text in self._records.get(name, ()) if type_ == "CNAME"), None)
            if alias is None:
                reply.set_rcode(dns.rcode.NOERROR if self._exists(name) else dns.rcode.NXDOMAIN)
                return
            reply.answer.append(_rrset(name, self._ttl, "CNAME", [alias]))
            name = alias.rstrip(".").lower()

    def _exists(self, name: str) -> bool:
        return name in self._records or any(other.endswith("." + name) for other in self._records)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: SmallDns) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        reply = self._server.answer_udp(data)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, peer)


def _parse(data: bytes) -> dns.message.Message | None:
    """None for what is not a question: it gets no answer."""
    try:
        message = dns.message.from_wire(data)
    except dns.exception.DNSException:
        return None
    return message if len(message.question) == 1 and not message.flags & dns.flags.QR else None


def _question(message: dns.message.Message) -> tuple[str, str]:
    question = message.question[0]
    return question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)


def _truncated(request: dns.message.Message) -> bytes:
    reply = dns.message.make_response(request)
    reply.flags |= dns.flags.TC
    return reply.to_wire()


def _rrset(name: str, ttl: int, kind: str, texts: list[str]) -> dns.rrset.RRset:
    absolute = dns.name.from_text(name)
    return dns.rrset.from_text_list(absolute, ttl, dns.rdataclass.IN, dns.rdatatype.from_text(kind), texts)
