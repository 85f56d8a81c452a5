"""The connections of one lane: opening, idle, busy, closed.

One connection is opened first; more follow while work waits, as the window allows. An idle one is used again,
the last used first. What opening ended as is told to the lane, which decides about suspension.
"""

from __future__ import annotations

from typing import Protocol

from relay.delivery.dial import NoSuchHost, Unreachable
from relay.delivery.health import Trouble
from relay.delivery.pool import Holder, Link
from relay.delivery.sandbox import Sandbox
from relay.delivery.settling import Attempt
from relay.delivery.tools import Tools
from relay.delivery.window import Window
from relay.reply import Reply
from relay.routing.table import LanePolicy
from relay.routing.target import Target


class Owner(Holder, Protocol):
    """The lane, as its connections see it."""

    def opened(self) -> None:
        """One more connection is idle."""

    def unreachable(self, trouble: Trouble) -> None:
        """Opening one more failed everywhere."""

    def nowhere(self, reply: Reply) -> None:
        """DNS says for good that nothing can be delivered."""


class Links:
    """busy: what each connection carries; targets: where each one goes; choices: addresses there were to
    choose from."""

    __slots__ = (
        "busy",
        "choices",
        "idle",
        "opening",
        "owner",
        "policy",
        "stale",
        "targets",
        "tools",
        "window",
    )

    def __init__(self, owner: Owner, policy: LanePolicy, tools: Tools) -> None:
        self.owner = owner
        self.policy = policy
        self.tools = tools
        self.window = Window(policy.concurrency)
        self.idle: list[Link] = []
        self.busy: dict[Link, Attempt] = {}
        self.targets: dict[Link, Target | None] = {}
        self.stale: set[Link] = set()  # busy, and of an older configuration
        self.opening = 0
        self.choices = 1

    @property
    def working(self) -> int:
        return len(self.idle) + len(self.busy)

    def use(self) -> Link | None:
        """An idle connection, the last used first; None when there is none."""
        if not self.idle:
            return None
        link = self.idle.pop()
        self.tools.pool.unpark(link)
        return link

    def open_more(self, waiting: int) -> None:
        """Open what the window allows and `waiting` entries can use. Returns at once. Hot."""
        if len(self.idle) + len(self.busy) + self.opening >= self.window.size:
            return
        while self.opening < waiting and self.window.allows(self.working, self.opening) and self._place():
            self.opening += 1
            self.tools.spawn(self._open(), self.tools.opening)

    def put_back(self, link: Link, keep: bool) -> None:
        """The job of `link` is over. keep: the lane may still use it."""
        if link.closed:
            return self._gone(link)
        worn = link.messages >= self.policy.messages_per_connection or link in self.stale
        if keep and not worn and not self._yields():
            self.idle.append(link)
        else:
            link.close()
            self._gone(link)

    def rest(self, link: Link) -> None:
        """After put_back and a pump: if nobody used it again, others may know that it is idle."""
        if link not in self.busy and link in self.targets:
            self.tools.pool.park(link, self.owner, self.tools.clock.monotonic())

    def give_up(self, link: Link) -> None:
        """Close an idle connection."""
        self.idle.remove(link)
        link.on_lost = None
        link.close()
        self._gone(link)

    def close_idle(self) -> None:
        while self.idle:
            self.give_up(self.idle[-1])

    def renew(self, policy: LanePolicy) -> None:
        """Another configuration: nothing opened under the old one is used again."""
        self.policy = policy
        self.window = Window(policy.concurrency)
        self.close_idle()
        self.stale.update(self.busy)

    async def _open(self) -> None:
        policy = self.policy
        try:
            link, target, choices = await self._reach()
        except BaseException as error:
            self.opening -= 1
            self.tools.pool.release()
            if policy is not self.policy and isinstance(error, Exception):
                self.owner.pump()
            elif isinstance(error, NoSuchHost):
                self.owner.nowhere(error.reply)
            elif isinstance(error, Exception):
                self.owner.unreachable(self._trouble(error))
            else:
                raise
        else:
            self.opening -= 1
            self._opened(link, target, choices, policy)
        self.tools.pool.serve()

    def _opened(self, link: Link, target: Target | None, choices: int, policy: LanePolicy) -> None:
        self.choices = choices
        self.targets[link] = target
        self.tools.events.connection_opened(self.policy.route)
        link.on_lost = self._lost
        self.idle.append(link)
        if policy is not self.policy:  # opened under an older configuration
            self.give_up(link)
            return self.owner.pump()
        self.owner.opened()
        self.rest(link)

    async def _reach(self) -> tuple[Link, Target | None, int]:
        if self.policy.capture is not None:
            return Sandbox(self.policy.capture, self.tools), None, 1
        return await self.tools.dialer.dial(self.policy)

    def _trouble(self, error: Exception) -> Trouble:
        if isinstance(error, Unreachable):
            return error.trouble
        self.tools.events.bug("opening", error)
        return Trouble("connect", Reply(0, "4.3.0", "internal error, will try again"))

    def _place(self) -> bool:
        """A place for one more. Only a lane that has none at all waits in line for it."""
        pool = self.tools.pool
        return pool.reserve(self.owner) if not (self.working or self.opening) else pool.try_reserve()

    def _yields(self) -> bool:
        """True when other lanes have no connection at all and this one has several."""
        return self.tools.pool.crowded and self.working > 0

    def _lost(self, link: Link) -> None:
        """The peer ended an idle connection."""
        if link in self.idle:
            self.idle.remove(link)
            self._gone(link)
            self.tools.pool.serve()

    def _gone(self, link: Link) -> None:
        self.targets.pop(link, None)
        self.stale.discard(link)
        self.tools.pool.unpark(link)
        self.tools.pool.release()
        self.tools.events.connection_closed(self.policy.route)
