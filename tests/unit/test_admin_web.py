"""/metrics, /healthz, /readyz over real HTTP on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from fakes.operator_queue import FakeQueue, FakeSpace
from fakes.ports import ReservedPort

from relay.admin.health import LAG_LIMIT, Health
from relay.admin.web import Admin
from relay.observe.events import Events


class Site:
    """A running admin side with a client."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.events = Events()
        self.queue = FakeQueue()
        self.health = Health(self.events, self.queue, accepting=True)
        self.admin = Admin("127.0.0.1:0", self.events.metrics, self.health)
        self.client = client

    async def get(self, path: str, accept: str = "*/*") -> tuple[int, str, str]:
        """Status, content type, text."""
        url = f"http://127.0.0.1:{self.admin.port}{path}"
        async with self.client.get(url, headers={"Accept": accept}) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with aiohttp.ClientSession() as client:
        made = Site(client)
        await made.admin.start()
        yield made
        await made.admin.stop()


async def test_metrics_in_both_formats(site: Site) -> None:
    """Prometheus text by default, OpenMetrics when asked for."""
    site.events.removed("q")
    status, kind, text = await site.get("/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert "relay_messages_removed_total 1.0" in text
    _, kind, text = await site.get("/metrics", "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_alive_and_ready(site: Site) -> None:
    """Nothing wrong: 200 from both."""
    assert (await site.get("/healthz"))[::2] == (200, "ok\n")
    status, _, text = await site.get("/readyz")
    assert (status, json.loads(text)) == (200, {"ready": True, "reasons": []})


@pytest.mark.parametrize(
    ("trouble", "alive", "reason"),
    [
        ("failed", 503, "the queue failed: I/O error"),
        ("lag", 503, "the event loop is 6.0 s late"),
        ("full", 200, "the spool has too little free space"),
        ("stopping", 200, "stopping"),
        ("starting", 200, "not accepting yet"),
    ],
)
async def test_trouble_has_a_reason(site: Site, trouble: str, alive: int, reason: str) -> None:
    """Not ready in each case; dead only where a restart helps."""
    match trouble:
        case "failed":
            site.health.failed = "I/O error"
        case "lag":
            site.events.loop_lag(LAG_LIMIT + 1)
        case "full":
            site.queue.room = FakeSpace(full=True)
        case "stopping":
            site.health.stopping = True
        case _:
            site.health.accepting = False
    assert (await site.get("/healthz"))[0] == alive
    status, _, text = await site.get("/readyz")
    assert (status, json.loads(text)) == (503, {"ready": False, "reasons": [reason]})


async def test_a_taken_address_is_an_error() -> None:
    """start() raises OSError and leaves nothing open."""
    port = ReservedPort()
    with port.listening() as taken:
        taken.listen()
        events = Events()
        admin = Admin(f"127.0.0.1:{port.port}", events.metrics, Health(events))
        with pytest.raises(OSError, match="in use"):
            await admin.start()
    await admin.stop()
    port.close()
