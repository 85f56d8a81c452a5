"""The HTTP side: /metrics for Prometheus, /healthz (alive) and /readyz (accepting, able to commit).

It changes nothing and shows no address of anybody's mail.
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from relay.admin.health import Health
from relay.config.address import parse_endpoint
from relay.observe.metrics import Metrics

GRACE = 1.0  # s that requests under way get at the end


class Admin:
    """address: host:port or [v6]:port; port 0 takes a free one, see `port` after start."""

    def __init__(self, address: str, metrics: Metrics, health: Health) -> None:
        self._host, self.port = parse_endpoint(address)
        self._health = health
        app = web.Application()
        app.router.add_get("/metrics", make_aiohttp_handler(metrics.registry))
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=GRACE)

    async def start(self) -> None:
        """Listens. OSError when the address cannot be had."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Closes the listener and what is open. Idempotent."""
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        reasons = self._health.alive()
        text = "; ".join(reasons) if reasons else "ok"
        return web.Response(text=f"{text}\n", status=503 if reasons else 200)

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = self._health.ready()
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)
