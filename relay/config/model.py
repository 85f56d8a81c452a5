"""Every key of relay.yaml, its type and its default (the outside surface; design section 5).

The model is frozen: a reload builds a new one. Durations are seconds (float), sizes are octets (int): the field
types below turn what people write ("5m", "50MiB") into them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Network = str
TlsPolicy = Literal["none", "opportunistic", "require", "verify"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listener(Section):
    address: str = "127.0.0.1:2525"
    tls: Literal["off", "starttls", "implicit"] = "off"
    auth: Literal["off", "optional", "required"] = "off"


class Lane(Section):
    """What a route and `mx:` have in common."""

    tls: TlsPolicy = "opportunistic"
    concurrency: int = Field(default=20, ge=1, le=1000)
    messages_per_connection: int = Field(default=100, ge=1)


class Mx(Lane):
    port: int = Field(default=25, ge=1, le=65535)


class Route(Lane):
    name: str = ""
    to: tuple[str, ...] | None = None
    from_: tuple[str, ...] | None = Field(default=None, alias="from")
    via: tuple[str, ...] | str = "mx"


class Dns(Section):
    servers: tuple[str, ...] = ()


class Delivery(Section):
    connections: int = Field(default=500, ge=1)
    ip: Literal["both", "4", "6"] = "both"
    source_address: str | None = None
    allow_networks: tuple[Network, ...] = ()
    own_addresses: tuple[str, ...] = ()


class Retry(Section):
    schedule: tuple[float, ...] = (60.0, 300.0, 900.0, 1800.0)
    factor: float = 1.5
    cap: float = 4 * 3600.0
    jitter: float = 0.2
    give_up: float = 5 * 86400.0
    warn_after: float | None = None


class Limits(Section):
    message_size: int = 50 * 2**20
    recipients: int = 1000
    sessions: int = 1000
    sessions_per_client: int = 100
    hops: int = 50
    spool_reserve: int = 2**30


class Content(Section):
    bare_newlines: Literal["normalize", "reject"] = "normalize"


class Admin(Section):
    address: str = "127.0.0.1:9525"


class Log(Section):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    hostname: str = ""
    spool: Path = Path("/var/spool/relay")
    listeners: tuple[Listener, ...] = (Listener(),)
    trusted_networks: tuple[Network, ...] = ("127.0.0.0/8", "::1")
    origin: str = ""
    postmaster: str = ""
    routes: tuple[Route, ...] = ()
    mx: Mx = Mx()
    dns: Dns = Dns()
    delivery: Delivery = Delivery()
    retry: Retry = Retry()
    limits: Limits = Limits()
    content: Content = Content()
    add_headers: tuple[Literal["date", "message-id"], ...] = ()
    admin: Admin = Admin()
    log: Log = Log()
    shutdown_timeout: float = 25.0
