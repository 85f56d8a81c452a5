"""The connections of one lane: opening, idle, busy, closing.

One connection is opened first; more follow while work waits, as the window allows. An idle one is used again,
the last used first. What opening ended as is told to the lane, which decides about suspension. The lane's
concurrency is a hard limit: whatever the next hop may still count as a connection of this lane is counted
here, also what detours use and what is saying QUIT.
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
    choose from; abroad: places that detours have without a connection in `busy`; elder: the connections of a
    lane of this name that was suspended and still sends; pool: where places are taken."""

    __slots__ = (
        "abroad", "busy", "choices", "closing", "elder", "idle", "opening", "owner", "policy", "pool",
        "stale", "targets", "tools", "window",
    )  # fmt: skip

    def __init__(self, owner: Owner, policy: LanePolicy, tools: Tools) -> None:
        self.owner = owner
        self.policy = policy
        self.tools = tools
        self.pool = tools.places(policy)
        self.window = Window(policy.concurrency)
        self.idle: list[Link] = []
        self.busy: dict[Link, Attempt] = {}
        self.targets: dict[Link, Target | None] = {}
        self.stale: set[Link] = set()  # busy, and of an older configuration
        self.closing: set[Link] = set()  # given up, and not yet known to be gone
        self.opening = 0
        self.abroad = 0
        self.choices = 1
        self.elder: Links | None = None

    @property
    def working(self) -> int:
        return len(self.idle) + len(self.busy)

    @property
    def total(self) -> int:
        """What the next hop may count as a connection of this lane."""
        own = len(self.idle) + len(self.busy) + self.opening + len(self.closing) + self.abroad
        return own + self.elder.total if self.elder is not None else own

    @property
    def full(self) -> bool:
        """True when one more would be one too many."""
        return self.total >= self.policy.concurrency

    def use(self, messages: int = 1) -> Link | None:
        """An idle connection that may carry so many more, the last used first; None when there is none."""
        most = self.policy.messages_per_connection
        while self.idle:
            link = self.idle[-1]
            if messages == 1 or not link.messages or link.messages + messages <= most:
                self.idle.pop()
                self.pool.unpark(link)
                return link
            self.give_up(link)
        return None

    def open_more(self, waiting: int) -> None:
        """Open what the window allows and `waiting` entries can use. Returns at once. Hot."""
        if len(self.idle) + len(self.busy) + self.opening >= self.window.size or self.full:
            return
        while (
            self.opening < waiting
            and self.window.allows(self.working, self.opening)
            and not self.full
            and self._place()
        ):
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
            self.pool.park(link, self.owner, self.tools.clock.monotonic())

    def give_up(self, link: Link) -> None:
        """Close an idle connection."""
        self.idle.remove(link)
        link.on_lost = None
        link.close()
        self._gone(link)

    def avoid(self, target: Target) -> None:
        """This host does not take our mail: no connection to it is used again."""
        for link in self._to(target):
            if link in self.idle:
                self.give_up(link)
            elif link in self.busy:
                self.stale.add(link)

    def proved(self, target: Target, but: Link) -> bool:
        """True when another connection to this host has carried mail."""
        return any(link.messages for link in self._to(target) - {but})

    def _to(self, target: Target) -> set[Link]:
        host = target.name, target.port
        return {link for link, where in self.targets.items() if where and (where.name, where.port) == host}

    def close_idle(self) -> None:
        while self.idle:
            self.give_up(self.idle[-1])

    def lend(self) -> bool:
        """Take a place for a detour, at the cost of an idle connection where need be. False: there is none.
        While `total` is over the limit that connection is still closing, and nothing may be opened."""
        if self.full and not self.idle:
            return False
        if not self.pool.try_reserve():
            return False
        if self.full and self.idle:
            self.give_up(self.idle[0])
        self.abroad += 1
        return True

    def crowded(self, link: Link) -> None:
        """The next hop says so of `link`, whose job is over, while others work: keep to those."""
        if link in self.idle:
            self.give_up(link)
        self.window.refused(self.working, self.tools.clock.monotonic())

    def renew(self, policy: LanePolicy) -> None:
        """Another configuration: nothing opened under the old one is used again."""
        self.policy = policy
        self.pool = self.tools.places(policy)  # the same one, with another limit, if anything is open
        self.window = Window(policy.concurrency)
        self.close_idle()
        self.stale.update(self.busy)

    async def _open(self) -> None:
        policy = self.policy
        try:
            link, target, choices = await self._reach()
        except BaseException as error:
            self.opening -= 1
            self.pool.release()
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
        self.pool.serve()

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
        pool = self.pool
        return pool.reserve(self.owner) if not (self.working or self.opening) else pool.try_reserve()

    def _yields(self) -> bool:
        """True when other lanes have no connection at all and this one has several."""
        return self.pool.crowded and self.working > 0

    def _lost(self, link: Link) -> None:
        """The peer ended an idle connection."""
        if link in self.idle:
            self.idle.remove(link)
            self._gone(link)
            self.pool.serve()

    def _gone(self, link: Link) -> None:
        self.targets.pop(link, None)
        self.stale.discard(link)
        self.pool.unpark(link)
        self.pool.release()
        self.tools.events.connection_closed(self.policy.route)
        self.leaves(link)

    def leaves(self, link: Link) -> None:
        """`link` is closed, or was told to: it counts until the peer knows."""
        if not link.ended:
            self.closing.add(link)
            link.on_ended = self._ended

    def _ended(self, link: Link) -> None:
        """There is room for another one now; who waited for it gets it."""
        full = self.full
        self.closing.discard(link)
        if full:
            self.owner.pump()
