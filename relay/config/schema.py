"""Questions about the model: which keys stand where, which have another name elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from relay.config import model
from relay.config.problem import Path

SECRETS = frozenset({"password", "client_secret", "refresh_token"})

# What other mail servers call it.
ELSEWHERE = {
    "myhostname": "hostname",
    "mydomain": "origin",
    "myorigin": "origin",
    "mynetworks": "trusted_networks",
    "relayhost": "routes with via:",
    "smarthost": "routes with via:",
    "transport_maps": "routes with to: and via:",
    "queue_directory": "spool",
    "inet_interfaces": "listeners",
    "listen": "listeners",
    "message_size_limit": "limits.message_size",
    "bounce_queue_lifetime": "retry.give_up",
    "maximal_queue_lifetime": "retry.give_up",
    "delay_warning_time": "retry.warn_after",
    "smtpd_recipient_limit": "limits.recipients",
    "smtpd_tls_cert_file": "tls.certificate",
    "smtpd_tls_key_file": "tls.key",
    "smtp_tls_security_level": "tls in routes and mx",
    "smtp_tls_CAfile": "ca_file in routes and mx",
    "smtp_sasl_password_maps": "routes with username: and password_file:",
    "smtpd_upstream_proxy_protocol": "listeners with proxy_from:",
    "sender_canonical_maps": "rewrite",
    "smtp_destination_rate_delay": "rate in routes and mx",
    "ratelimit": "rate",
    "user": "username",
}


def fields_of(section: type[model.Section]) -> dict[str, FieldInfo]:
    """The keys of a section as they are written in the file (`from`, not `from_`)."""
    return {str(each.validation_alias or name): each for name, each in section.model_fields.items()}


def section_at(path: Path) -> type[model.Section] | None:
    """The section that holds the keys below `path`; None when there is none."""
    section: type[model.Section] | None = model.Config
    for part in path:
        if section is None:
            return None
        if isinstance(part, str):
            field = fields_of(section).get(part)
            section = _section_in(field.annotation) if field else None
    return section


def _section_in(annotation: Any) -> type[model.Section] | None:
    """Mx -> Mx, tuple[Route, ...] -> Route, Oauth | None -> Oauth, str -> None."""
    if get_origin(annotation) in (tuple, UnionType):
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, model.Section) else None


def field_at(path: Path) -> FieldInfo | None:
    """The field that `path` names, None when it names none (an item of a list, an unknown key)."""
    section = section_at(path[:-1]) if path and isinstance(path[-1], str) else None
    return fields_of(section).get(str(path[-1])) if section else None


def takes_null(path: Path) -> bool:
    """True for the keys that may be left without a value: the default is none, a section, or an empty list.

    `to` and `from` may not: an empty value would match every mail.
    """
    field = field_at(path)
    if field is None:
        return False
    if _section_in(field.annotation) is not None:
        return path[-1] != "listeners"
    return field.default == () or (field.default is None and path[-1] not in ("to", "from"))


def all_keys(
    section: type[model.Section] = model.Config, above: Path = ()
) -> Iterator[tuple[Path, FieldInfo]]:
    """Every key with its path; items of lists are left out of the path: ("routes", "via")."""
    for name, field in fields_of(section).items():
        yield (*above, name), field
        inner = _section_in(field.annotation)
        if inner is not None:
            yield from all_keys(inner, (*above, name))
