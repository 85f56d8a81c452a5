"""A scheduler with one route to hosts by name, some of them at fault: a World whose table is a real one."""

from __future__ import annotations

from typing import Any

from fakes.delivery import FakeResolver
from fakes.delivery_world import World

from relay.config.model import Config, Retry
from relay.delivery.failure import OpenFailed
from relay.reply import Reply
from relay.routing.table import RouteTable

LANE = "route:smarthost"
A, B = "a.example", "b.example"


def configured(*hosts: str, **keys: Any) -> Config:
    via = [f"{host}:587" for host in hosts]
    login = (
        {"username": "relay", "password": "secret"} if "password_file" not in keys else {"username": "relay"}
    )
    retry = keys.pop("retry", Retry())
    route = {"name": "smarthost", "via": via, **login, **keys}
    return Config.model_validate({"routes": [route]}).model_copy(update={"retry": retry})


def world(*hosts: str, **keys: Any) -> World:
    """A route to these hosts, in this order."""
    config = configured(*hosts, **keys)
    table: Any = RouteTable(config)  # a real one: policies with `via`
    here = World(config, table, FakeResolver(*hosts, port=587))
    here.queue.submit(LANE)
    return here


def refusal(host: str, reason: str = "auth", *, fault: bool = True) -> OpenFailed:
    stage = {"auth": "auth", "token": "auth", "tls": "starttls"}[reason]
    return OpenFailed(stage, Reply(535, "4.7.8", "no"), reason, f"{host}[192.0.2.1]:587", fault=fault)


def hosts_at_fault(here: World) -> list[str]:
    return [host for _, host, _ in here.scheduler.tools.faults.records]
