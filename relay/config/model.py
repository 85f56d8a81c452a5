"""Every key of relay.yaml, its type and its default (the outside surface).

The model is frozen: a reload builds a new one. Durations are seconds (float), sizes are octets (int): the
field types below turn what people write ("5m", "50MiB") into them. Built in Python, plain numbers are
seconds and octets; from a file (`context` given to model_validate) a bare number is no duration. Every
ValueError raised here ends by saying what to write instead; `relay.config.advice` words what pydantic finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Strict,
    Tag,
    ValidationInfo,
    model_validator,
)

from relay.config import address
from relay.config.presets import PRESETS, PresetName
from relay.config.units import check_rate, parse_duration, parse_size

TlsPolicy = Literal["none", "opportunistic", "require", "verify"]
Network = Annotated[str, AfterValidator(address.check_network)]
Endpoint = Annotated[str, AfterValidator(address.check_endpoint)]
Ip = Annotated[str, AfterValidator(address.check_ip)]
Domain = Annotated[str, AfterValidator(address.check_domain)]
Rate = Annotated[str, AfterValidator(check_rate)]
Truth = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


def _duration(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return parse_duration(f"{value:.10g}") if info.context and value >= 0 else float(value)
    raise ValueError("not a duration; write it as 30s, 5m, 1h30m or 5d")


def _never(value: Any) -> Any:
    return None if value == "never" else value


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("not a size; write it as 4096, 512KiB, 50MiB or 1GiB")


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError(f"{value:g} is negative; write 0 or more")
    return value


Duration = Annotated[float, BeforeValidator(_duration), AfterValidator(_not_negative)]
DurationOrNever = Annotated[Duration | None, BeforeValidator(_never)]
Size = Annotated[int, BeforeValidator(_size), AfterValidator(_not_negative)]


def _filled(items: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if items is not None and not items:
        raise ValueError("an empty list matches nothing; remove the key to match any")
    return items


def _some(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if not items:
        raise ValueError("an empty list; write at least one item")
    return items


def _digit(value: Any) -> Any:
    """`ip: 4` needs no quotes."""
    return str(value) if value in (4, 6) else value


def _shape(value: Any) -> str:
    return "text" if isinstance(value, str) else "list"


ToPattern = Annotated[str, AfterValidator(address.check_recipient_pattern)]
FromPattern = Annotated[str, AfterValidator(address.check_sender_pattern)]
ViaItem = Annotated[str, AfterValidator(address.check_via_item)]
ViaValue = Annotated[
    Annotated[tuple[ViaItem, ...], AfterValidator(_some), Tag("list")]
    | Annotated[str, AfterValidator(address.check_via), Tag("text")],
    Discriminator(_shape),
]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Listener(Section):
    address: Endpoint = "127.0.0.1:2525"
    tls: Literal["off", "starttls", "implicit"] = "off"
    auth: Literal["off", "optional", "required"] = "off"
    auth_over: Literal["tls", "clear"] = "tls"  # clear: passwords may pass without TLS
    proxy_from: tuple[Network, ...] = ()  # peers that begin with the PROXY protocol, and must


class Tls(Section):
    """What the listeners show to clients: PEM files."""

    certificate: Path | None = None  # with the chain
    key: Path | None = None


class Oauth(Section):
    """How XOAUTH2 gets its token: by the refresh token where there is one, else as the client itself."""

    token_url: Annotated[str, AfterValidator(address.check_token_url)]
    client_id: str
    client_secret: SecretStr | None = None
    client_secret_file: Path | None = None
    refresh_token: SecretStr | None = None
    refresh_token_file: Path | None = None
    scope: str = ""


class Rewrite(Section):
    """One rule for envelope senders; the first that fits wins. header: the From header's address as well."""

    from_: Annotated[str, AfterValidator(address.check_rewrite_from)] = Field(
        validation_alias="from", serialization_alias="from"
    )
    to: Annotated[str, AfterValidator(address.check_rewrite_to)]
    header: Truth = False


class Lane(Section):
    """What a route and `mx:` have in common."""

    tls: TlsPolicy = "opportunistic"
    ca_file: Path | None = None  # verify: what signs the next hops' certificates, instead of the system's
    concurrency: Whole = Field(default=20, ge=1, le=1000)
    rate: Rate | None = None  # messages: in all of a route, to each domain of mx
    messages_per_connection: Whole = Field(default=100, ge=1, le=1_000_000)


class Mx(Lane):
    port: Whole = Field(default=25, ge=1, le=65535)


class Route(Lane):
    """name: filled in by Config with its place ("1", "2"). via: "mx", "capture:/dir" or hops in a tuple."""

    name: str = ""
    to: Annotated[tuple[ToPattern, ...] | None, AfterValidator(_filled)] = None
    from_: Annotated[tuple[FromPattern, ...] | None, AfterValidator(_filled)] = Field(
        default=None, validation_alias="from", serialization_alias="from"
    )
    preset: PresetName | None = None  # what a big smarthost documents: presets.py
    via: ViaValue = "mx"
    connections: Whole | None = Field(default=None, ge=1, le=100_000)  # over all its domains (via: mx)
    username: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    oauth: Oauth | None = None
    login_over: Literal["verified", "encrypted", "clear"] = "verified"

    @model_validator(mode="after")
    def _fill_in(self) -> Route:
        """What a preset says, and what a login wants: to know to whom. What is written wins."""
        filled: dict[str, object] = {"tls": "verify"} if self.username else {}
        if self.preset is not None:
            filled |= PRESETS[self.preset].values()
        for key, value in filled.items():
            if key not in self.model_fields_set:
                object.__setattr__(self, key, value)
        return self


class Dns(Section):
    servers: tuple[Annotated[str, AfterValidator(address.check_dns_server)], ...] = ()


class Delivery(Section):
    connections: Whole = Field(default=500, ge=1, le=100_000)
    ip: Annotated[Literal["both", "4", "6"], BeforeValidator(_digit)] = "both"
    source_address: Ip | None = None
    allow_networks: tuple[Network, ...] = ()
    own_addresses: tuple[Ip, ...] = ()


class Retry(Section):
    schedule: Annotated[tuple[Duration, ...], AfterValidator(_some)] = (60.0, 300.0, 900.0, 1800.0)
    factor: Number = Field(default=1.5, ge=1, le=100)
    cap: Duration = 4 * 3600.0
    jitter: Number = Field(default=0.2, ge=0, le=0.9)
    give_up: Duration = 5 * 86400.0
    warn_after: DurationOrNever = None
    after_crash: Duration = 60.0  # what was in flight when the relay crashed waits this long


class Limits(Section):
    message_size: Size = 50 * 2**20
    recipients: Whole = Field(default=1000, ge=1, le=1000)
    sessions: Whole = Field(default=1000, ge=1, le=1_000_000)
    sessions_per_client: Whole = Field(default=100, ge=1, le=1_000_000)
    hops: Whole = Field(default=50, ge=1, le=1000)
    spool_reserve: Size = 2**30


class Content(Section):
    bare_newlines: Literal["normalize", "reject"] = "normalize"


class Admin(Section):
    address: Endpoint = "127.0.0.1:9525"


class Log(Section):
    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    hostname: Annotated[str, AfterValidator(address.check_hostname)] = ""  # filled in by the loader
    spool: Path = Path("/var/spool/relay")
    allow_volatile_spool: Truth = False  # on a file system that a restart may empty
    listeners: Annotated[tuple[Listener, ...], AfterValidator(_some)] = (Listener(),)
    tls: Tls = Tls()
    users_file: Path | None = None
    trusted_networks: tuple[Network, ...] = ("127.0.0.0/8", "::1")
    origin: Domain = ""
    rewrite: tuple[Rewrite, ...] = ()
    postmaster: Annotated[str, AfterValidator(address.check_mailbox)] = ""
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
    shutdown_timeout: Duration = 25.0

    @model_validator(mode="after")
    def _name_routes(self) -> Config:
        """A route without a name is called by its place in the list, counted from 1."""
        named = tuple(
            route if route.name else route.model_copy(update={"name": str(place)})
            for place, route in enumerate(self.routes, 1)
        )
        object.__setattr__(self, "routes", named)
        return self
