"""The wiring: what holds when a part of it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from relay.app import App, merged
from relay.config.model import Config, Limits, Listener, Route, Tls
from relay.observe.events import Events

CONFIG = Config(hostname="relay.example.com")


class Part:
    """Something that is stopped or closed. error: raised then."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.ended = 0

    async def stop(self) -> None:
        self.ended += 1
        if self.error is not None:
            raise self.error

    close = stop


def made() -> App:
    """An App that was not started."""
    return App(CONFIG, Events(), lambda _: None)


async def test_the_queue_is_closed_whatever_fails_before() -> None:
    """A bug in one part must not leave the spool open."""
    app = made()
    queue = Part()
    app.queue, app.admin = cast(Any, queue), cast(Any, Part(RuntimeError("bug")))
    with pytest.raises(RuntimeError, match="bug"):
        await app.stop()
    assert queue.ended == 1


def test_a_reload_that_fails_changes_nothing() -> None:
    """All or nothing, also for what the check of the configuration did not find."""
    app = made()
    app.table, app.resolver = cast(Any, table := object()), cast(Any, resolver := object())
    with pytest.raises(ValueError, match="mx"):
        app.reload(CONFIG.model_copy(update={"routes": (Route(name="mx"),)}))
    assert (app.config, app.table, app.resolver) == (CONFIG, table, resolver)


def test_what_a_reload_cannot_change_stays() -> None:
    """Named, and as it was; the rest of its section is new."""
    new = CONFIG.model_copy(
        update={
            "hostname": "other.example",
            "limits": Limits(hops=7, spool_reserve=1),
            "postmaster": "a@b.example",
        }
    )
    kept, stuck = merged(CONFIG, new)
    assert stuck == ["hostname", "limits.spool_reserve"]
    assert (kept.hostname, kept.limits, kept.postmaster) == (
        "relay.example.com",
        Limits(hops=7),
        "a@b.example",
    )


def test_a_reload_cannot_take_the_certificate_from_listeners() -> None:
    """They stay as they are until a restart, and so does what they show; another one is taken."""
    files = Tls(certificate=Path("/etc/relay/tls.crt"), key=Path("/etc/relay/tls.key"))
    others = Tls(certificate=Path("/new/tls.crt"), key=Path("/new/tls.key"))
    old = CONFIG.model_copy(update={"listeners": (Listener(tls="starttls"),), "tls": files})
    kept, stuck = merged(old, CONFIG)
    assert (kept.tls, stuck) == (files, ["listeners"])
    kept, stuck = merged(old, old.model_copy(update={"tls": others}))
    assert (kept.tls, stuck) == (others, [])


def test_a_reload_cannot_take_the_users_from_listeners() -> None:
    """The same for logins: listeners that still want them know who may; another file is taken."""
    users, others = Path("/etc/relay/users"), Path("/new/users")
    listeners = (Listener(auth="required", auth_over="clear"),)
    old = CONFIG.model_copy(update={"listeners": listeners, "users_file": users})
    kept, stuck = merged(old, CONFIG)
    assert (kept.users_file, stuck) == (users, ["listeners"])
    assert merged(old, old.model_copy(update={"users_file": others}))[0].users_file == others
    assert merged(CONFIG, CONFIG.model_copy(update={"users_file": users}))[0].users_file == users
