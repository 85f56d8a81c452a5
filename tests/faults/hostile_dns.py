"""A DNS server that is in trouble: HostileDns, in a thread of its own.

A share of its answers is replaced by trouble of any kind. What is definite and false is said once in a while:
that is longer than an answer is kept and a question is asked, so that it is not what confirms itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Self, cast, get_args

import dns.message

from relay.demo.dns import Record, SmallDns, Step

TROUBLE = tuple(step for step in get_args(Step) if step != "ok")
AGAIN = 60.0  # s
WRONG = frozenset({"nxdomain", "nodata"})  # definite answers, and not true


class HostileDns(SmallDns):
    """share: of the answers that are wrong or missing. done: how often each trouble was made."""

    def __init__(self, records: dict[str, Iterable[Record]], random: Random) -> None:
        super().__init__(records, ttl=0)
        self.share = 0.0
        self.done: Counter[str] = Counter()
        self._random = random
        self._wrong: dict[tuple[str, str], float] = {}  # when that was last answered wrongly
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _step(self, request: dns.message.Message | None, transport: str) -> Step:
        told = super()._step(request, transport)
        if request is None or told != "ok" or self._random.random() >= self.share:
            return told
        step = cast(Step, self._random.choice(TROUBLE))
        if step in WRONG and time.monotonic() - self._wrong.get(key(request), -AGAIN) < AGAIN:
            step = "servfail"
        if step in WRONG:
            self._wrong[key(request)] = time.monotonic()
        self.done[f"{step} {transport}"] += 1
        return step


def key(request: dns.message.Message) -> tuple[str, str]:
    question = request.question[0]
    return question.name.to_text(), str(question.rdtype)
