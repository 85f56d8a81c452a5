"""DNS questions with a memory: one name, one type, one `Answer`.

Answers are kept for their TTL (30 s to an hour, negative ones at most 5 minutes) in a bounded store; equal
questions asked at the same time are one query. What ends mail is believed only when a second query, to
another server where there is one, says it again: NXDOMAIN always, "no such record" where the asker wants to
be sure. Trouble is never kept.

The type "HOST" is the system's own way to find a host (hosts file, search list, the names of a container
network), for configured next hops; it is kept for a minute.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from relay.observe.events import Events
from relay.routing.domain import is_name
from relay.routing.query import MAX_ADDRESSES, QUESTION_SECONDS, Answer, DnsClient, Kind

MIN_TTL, MAX_TTL, MAX_NEGATIVE_TTL, HOST_TTL = 30.0, 3600.0, 300.0, 60.0  # seconds
MAX_ENTRIES = 20_000
MAX_QUERIES = 200  # at one time; more wait their turn


class Lookup:
    """Belongs to one event loop; `close` ends the queries under way."""

    def __init__(
        self,
        client: DnsClient,
        events: Events,
        clock: Callable[[], float] = time.monotonic,
        *,
        entries: int = MAX_ENTRIES,
        queries: int = MAX_QUERIES,
    ) -> None:
        """clock: monotonic seconds."""
        self._client = client
        self._events = events
        self._clock = clock
        self._entries = entries
        self._turn = asyncio.Semaphore(queries)
        self._kept: OrderedDict[tuple[str, Kind], tuple[float, Answer]] = OrderedDict()
        self._asked: dict[tuple[str, Kind, bool], asyncio.Task[Answer]] = {}

    async def ask(self, name: str, kind: Kind, *, sure: bool = False) -> Answer:
        """name: folded. Trouble is an answer too: see Answer.definite. A name that the DNS cannot hold does
        not exist. sure: it was asked before and there was nothing; that is asked once more, unless it was."""
        if not is_name(name):
            return Answer("nxdomain", text="not a name that the DNS can hold", sure=True)
        kept = self._kept.get((name, kind))
        if kept is not None and self._clock() < kept[0] and (kept[1].sure or not sure):
            self._kept.move_to_end((name, kind))
            return kept[1]
        key = (name, kind, sure)
        task = self._asked.get(key)
        if task is None:
            fetching = self._fetch(name, kind, sure)
            task = self._asked[key] = asyncio.create_task(fetching, name=f"dns {kind} {name}")
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        # One asker may give up (its attempt's time is over); the answer still serves the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Who still waits in `ask` is cancelled with the query."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, name: str, kind: Kind, sure: bool) -> Answer:
        async with self._turn:
            answer = await (self._system(name) if kind == "HOST" else self._dns(name, kind, sure))
        if answer.definite:
            self._keep((name, kind), answer)
        return answer

    def _keep(self, key: tuple[str, Kind], answer: Answer) -> None:
        longest = MAX_TTL if answer.result == "ok" else MAX_NEGATIVE_TTL
        self._kept[key] = (self._clock() + min(max(answer.ttl, MIN_TTL), longest), answer)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    async def _dns(self, name: str, kind: Kind, sure: bool) -> Answer:
        answer = await self._query(name, kind, sure)
        if answer.result == "nxdomain":
            answer = await self._query(name, kind, not sure)
            sure = True
        return replace(answer, sure=True) if sure else answer

    async def _query(self, name: str, kind: Kind, again: bool) -> Answer:
        answer = await self._client.query(name, kind, again=again)
        self._events.dns_lookup(kind.lower(), answer.result)
        return answer

    async def _system(self, name: str) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except TimeoutError:
            return Answer("timeout", text="the system did not find it in time")
        except socket.gaierror as error:
            known = error.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
            return Answer("nxdomain" if known else "servfail", ttl=0.0, text=str(error.strerror))
        addresses = dict.fromkeys(str(item[4][0]) for item in found)
        plain = [address for address in addresses if "%" not in address]  # no link-local zones
        return Answer("ok", addresses=tuple(plain[:MAX_ADDRESSES]), ttl=HOST_TTL)
