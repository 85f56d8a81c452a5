"""The small DNS server itself: what a client of another make sees."""

from __future__ import annotations

import asyncio
import socket

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest

from relay.demo.dns import SmallDns


def question(name: str, kind: str) -> dns.message.QueryMessage:
    return dns.message.make_query(name, kind)


async def udp(server: SmallDns, name: str, kind: str, seconds: float = 1.0) -> dns.message.Message:
    host, _, port = server.address.rpartition(":")
    return await dns.asyncquery.udp(question(name, kind), host.strip("[]"), seconds, int(port))


def texts(reply: dns.message.Message) -> list[str]:
    return sorted(record.to_text() for records in reply.answer for record in records)


async def test_answers_with_authority() -> None:
    """Records, alias, no data with SOA, no such name with SOA; names without regard to case."""
    records = {
        "X.test": [("MX", "10 mx.example.")],
        "a.test": [("A", "192.0.2.1")],
        "w.test": [("CNAME", "a.test.")],
    }
    async with SmallDns(records) as server:
        found = await udp(server, "x.TesT", "MX")
        assert (texts(found), bool(found.flags & dns.flags.AA)) == (["10 mx.example."], True)
        assert texts(await udp(server, "w.test", "A")) == ["192.0.2.1", "a.test."]
        empty, missing = await udp(server, "x.test", "A"), await udp(server, "y.test", "A")
        assert (empty.rcode(), missing.rcode()) == (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        assert len(empty.authority) == len(missing.authority) == 1
        assert server.queries[0] == ("x.test", "MX", "udp")


async def test_records_change_while_it_runs() -> None:
    async with SmallDns({}) as server:
        server.set("x.test", [("A", "192.0.2.1")])
        assert texts(await udp(server, "x.test", "A")) == ["192.0.2.1"]
        server.remove("x.test")
        assert (await udp(server, "x.test", "A")).rcode() == dns.rcode.NXDOMAIN


async def test_udp_and_tcp_share_a_port() -> None:
    """A long answer is cut over UDP without EDNS, and whole over TCP; one TCP session takes several
    questions."""
    async with SmallDns({"x.test": [("TXT", "t" * 200 + str(number)) for number in range(50)]}) as server:
        cut = await udp(server, "x.test", "TXT")
        assert cut.flags & dns.flags.TC
        host, _, port = server.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(2):
            wire = question("x.test", "TXT").to_wire()
            writer.write(len(wire).to_bytes(2, "big") + wire)
            size = int.from_bytes(await reader.readexactly(2), "big")
            assert len(texts(dns.message.from_wire(await reader.readexactly(size)))) == 50
        writer.close()
        await writer.wait_closed()


async def test_the_more_exact_script_wins_and_steps_are_used_up() -> None:
    async with SmallDns({"x.test": [("A", "192.0.2.1")]}) as server:
        server.script("*", "*", then="refused")
        server.script("x.test", "A", "servfail", "nxdomain")
        codes = [(await udp(server, "x.test", "A")).rcode() for _ in range(3)]
        assert codes == [dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, dns.rcode.NOERROR]
        assert (await udp(server, "x.test", "MX")).rcode() == dns.rcode.REFUSED
        assert server.asked("x.test", "A") == 3


async def test_what_is_no_question_gets_no_answer() -> None:
    """Noise and answers: the server stays alive and does not echo."""
    async with SmallDns({"x.test": [("A", "192.0.2.1")]}) as server:
        host, _, port = server.address.partition(":")
        response = dns.message.make_response(question("x.test", "A")).to_wire()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
            for data in (b"", b"\0", b"\xff" * 600, response):
                noise.sendto(data, (host, int(port)))
            assert texts(await udp(server, "x.test", "A")) == ["192.0.2.1"]
            noise.setblocking(False)
            with pytest.raises(BlockingIOError):
                noise.recv(600)


async def test_stop_ends_open_sessions_and_is_idempotent() -> None:
    server = SmallDns({})
    await server.start()
    host, _, port = server.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    await udp(server, "x.test", "A")  # a turn of the loop: the session is accepted
    await server.stop()
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_port_that_is_taken() -> None:
    async with SmallDns({}) as first:
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(OSError):
            await SmallDns({}, port=port).start()
