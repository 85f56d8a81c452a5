"""TokenEndpoint: where OAuth tokens come from, on loopback, in the test's loop; answers as told."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any

from aiohttp import web

ACCESS, REFRESH, CLIENT = "eyJ-access", "0.refresh-token", "client~secret"


class TokenEndpoint:
    """async with: listens on 127.0.0.1, `url`. answers: (status, body) one after the other, the last for
    ever; a body that is no text is JSON. forms: what was asked, with `asked` set. gate: waited for before
    each answer."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers) or [(200, granted())]
        self.forms: list[dict[str, str]] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> TokenEndpoint:
        app = web.Application()
        app.router.add_post("/token", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/token"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert request.content_type == "application/x-www-form-urlencoded"
        self.forms.append({key: str(value) for key, value in form.items()})
        self.asked.set()
        await self.gate.wait()
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, content_type="application/json")


def granted(access: str = ACCESS, **more: Any) -> dict[str, Any]:
    return {"access_token": access, "token_type": "Bearer", "expires_in": 3600, **more}


def refused(error: str, description: str = "") -> dict[str, Any]:
    return {"error": error, "error_description": description}
