"""The event loops the relay runs on: tests of protocols run on each.

@pytest.fixture(params=LOOPS)
def run(request):
    with running(request.param) as run:
        yield run
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
LONGEST = 20  # seconds a scenario may take

Run = Callable[[Coroutine[Any, Any, None]], None]


@contextmanager
def running(name: str) -> Iterator[Run]:
    """Gives a function that runs a coroutine; what the loop's exception handler was told is an error."""
    complaints: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        yield lambda scenario: runner.run(asyncio.wait_for(scenario, LONGEST))
    assert complaints == []
